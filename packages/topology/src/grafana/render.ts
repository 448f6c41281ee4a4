/** Grafana's JSON of the dashboards. */
import { DASHBOARDS } from './panels.ts';
import type { Dashboard, Panel } from './queries.ts';

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
    type: panel.kind ?? 'timeseries',
    datasource: PROMETHEUS,
    gridPos: { x: (index % perRow) * WIDTH, y: Math.floor(index / perRow) * HEIGHT, w: WIDTH, h: HEIGHT },
    ...(panel.kind === 'heatmap' ? heatmap(panel) : timeseries(panel)),
    targets: panel.queries.map(({ expr, legend }, target) => ({
      datasource: PROMETHEUS,
      expr,
      legendFormat: legend,
      refId: String.fromCharCode(65 + target),
    })),
  };
}

function timeseries(panel: Panel): object {
  return {
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
    options: {
      legend: { displayMode: 'list', placement: 'bottom', showLegend: true, calcs: [] },
      tooltip: { mode: 'multi', sort: 'desc' },
    },
  };
}

/** A row for each series, in the order of their names. */
function heatmap(panel: Panel): object {
  return {
    fieldConfig: { defaults: { unit: panel.unit, custom: {} }, overrides: [] },
    options: {
      calculate: false,
      cellGap: 1,
      cellValues: { unit: panel.unit },
      color: { mode: 'scheme', scheme: 'Oranges', exponent: 0.5, fill: 'dark-orange', reverse: false, steps: 64 },
      exemplars: { color: 'rgba(255,0,255,0.7)' },
      legend: { show: true },
      rowsFrame: { layout: 'auto' },
      showValue: 'never',
      tooltip: { mode: 'single', yHistogram: false },
      yAxis: { axisPlacement: 'left', reverse: true },
    },
  };
}
