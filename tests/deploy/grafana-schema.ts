/** Checks dashboards against Grafana's own schema, as @grafana/schema has it: fields that it doesn't know, values that it doesn't take. */
import { typeProblems } from './type-check.ts';

/** Enumerations of the schema are TypeScript's; JSON has their values. Options and custom fields are those of the panel's type. */
const TYPES = `
import type { Dashboard, DataQuery, FieldConfigSource, Panel, RowPanel } from '@grafana/schema';
import type { FieldConfig as HeatmapField, Options as HeatmapOptions } from '@grafana/schema/dist/esm/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen';
import type { FieldConfig as SeriesField, Options as SeriesOptions } from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

type Plain<T> = T extends string ? \`\${T}\` : T extends number | boolean | null | undefined ? T
  : T extends readonly (infer E)[] ? Plain<E>[] : { [K in keyof T]: Plain<T[K]> };
type Target = Required<Pick<DataQuery, 'refId'>> & Pick<DataQuery, 'datasource'> & { expr: string; legendFormat: string };
interface Source<C> extends Omit<FieldConfigSource, 'defaults'> {
  defaults: Pick<FieldConfigSource['defaults'], 'unit' | 'min' | 'max'> & { custom?: Partial<C> };
}
type Of<T extends string, O, C> = Omit<Panel, 'type' | 'options' | 'fieldConfig' | 'targets'>
  & { type: T; options: Plain<O>; fieldConfig: Plain<Source<C>>; targets: Target[] };
export type Checked = Omit<Plain<Dashboard>, 'panels'> & { panels: (Of<'timeseries', SeriesOptions, SeriesField> | Of<'heatmap', HeatmapOptions, HeatmapField>)[] };
`;

/** What the compiler says of these dashboards; empty when all are right. */
export function grafanaProblems(dashboards: readonly object[]): string[] {
  const values = dashboards.map((value, index) => `export const d${index}: Checked = ${JSON.stringify(value, null, 1)};`);
  return typeProblems([TYPES, ...values].join('\n'), { module: 'esnext', moduleResolution: 'bundler' });
}
