/** What a dashboard is made of, and the queries that several share. */

export interface Query {
  expr: string;
  legend: string;
}

export interface Panel {
  title: string;
  /** What a person should see in it. */
  description: string;
  /** Grafana's name of the unit. */
  unit: string;
  queries: readonly Query[];
  stacked?: boolean;
  /** `heatmap`: a row for each series, coloured by its value. */
  kind?: 'timeseries' | 'heatmap';
  /** Moves only when something fails, or not at all while nothing comes or goes. */
  quiet?: boolean;
}

export interface Dashboard {
  uid: string;
  title: string;
  panels: readonly Panel[];
}

const RATE = '[$__rate_interval]';
export const rate = (series: string): string => `rate(${series}${RATE})`;

export function sum(series: string, by?: string): string {
  return by === undefined ? `sum(${rate(series)})` : `sum by (${by}) (${rate(series)})`;
}

export function query(expr: string, legend: string): Query {
  return { expr, legend };
}

/** p50, p90 and p99 of a histogram. */
export function quantiles(metric: string, by?: string): Query[] {
  return [0.5, 0.9, 0.99].map((q) => {
    const name = `p${q * 100}`;
    const labels = by === undefined ? 'le' : `${by}, le`;
    const prefix =
      by === undefined
        ? ''
        : `${by
            .split(', ')
            .map((label) => `{{${label}}}`)
            .join(' → ')} `;
    return query(`histogram_quantile(${q}, ${sum(`${metric}_bucket`, labels)})`, prefix + name);
  });
}

export function mean(metric: string, by: string): string {
  return `${sum(`${metric}_sum`, by)} / ${sum(`${metric}_count`, by)}`;
}
