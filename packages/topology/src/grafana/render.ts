/** Grafana's JSON of the dashboards. */
import { type Dashboard, DASHBOARDS, type Panel } from './panels.ts';

/** The data source that deploy/grafana/provisioning makes. */
const PROMETHEUS = { type: 'prometheus', uid: 'prometheus' } as const;
const SCHEMA_VERSION = 39;
/** Three panels stand side by side on Grafana's 24 columns. */
const WIDTH = 8;
const HEIGHT = 7;

/** Contents by path below deploy/grafana/dashboards. */
export function renderDashboards(): Map<string, string> {
  return new Map(
    Object.entries(DASHBOARDS).map(([name, dashboard]) => [`${name}.json`, `${JSON.stringify(render(dashboard), null, 2)}\n`]),
  );
}

function render({ uid, title, panels }: Dashboard): object {
  return {
    uid,
    title,
    tags: ['causeway'],
    schemaVersion: SCHEMA_VERSION,
    version: 1,
    editable: true,
    refresh: '10s',
    time: { from: 'now-30m', to: 'now' },
    timezone: '',
    templating: { list: [] },
    annotations: { list: [] },
    links: [
      {
        title: 'Causeway',
        type: 'dashboards',
        tags: ['causeway'],
        asDropdown: false,
        includeVars: false,
        keepTime: true,
        targetBlank: false,
        icon: '',
        tooltip: '',
        url: '',
      },
    ],
    panels: panels.map(renderPanel),
  };
}

function renderPanel(panel: Panel, index: number): object {
  const perRow = 24 / WIDTH;
  return {
    id: index + 1,
    title: panel.title,
    description: panel.description,
    type: 'timeseries',
    datasource: PROMETHEUS,
    gridPos: { x: (index % perRow) * WIDTH, y: Math.floor(index / perRow) * HEIGHT, w: WIDTH, h: HEIGHT },
    fieldConfig: {
      defaults: {
        unit: panel.unit,
        min: 0,
        custom: {
          lineWidth: 1,
          fillOpacity: 10,
          showPoints: 'never',
          ...(panel.stacked === true ? { stacking: { mode: 'normal' } } : {}),
        },
      },
      overrides: [],
    },
    options: { legend: { displayMode: 'list', placement: 'bottom' }, tooltip: { mode: 'multi' } },
    targets: panel.queries.map(({ expr, legend }, target) => ({
      datasource: PROMETHEUS,
      expr,
      legendFormat: legend,
      refId: String.fromCharCode(65 + target),
    })),
  };
}
