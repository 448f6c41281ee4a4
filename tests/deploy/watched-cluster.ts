/** A cluster under load, and a Prometheus that scrapes it every second with the rules and jobs that Compose has. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Child, type Cluster, eventually, findBinary, freePort, startCluster, startProcess } from '@causeway/testkit';
import { defaultTopology, renderPrometheus } from '@causeway/topology';
import { parse, stringify } from 'yaml';
import { ROOT } from './manifests.ts';
import { recordedNames } from './rules.ts';

export interface Series {
  metric: Record<string, string>;
  values: [number, string][];
}

export interface Rule {
  name: string;
  type: string;
  health: string;
  state?: string;
  lastError?: string;
}

export interface Watched extends AsyncDisposable {
  cluster: Cluster;
  /** Has Prometheus scrape the workers that there are now: one that is started again has other ports. */
  follow(): void;
  /** Values of a query, a second apart, since the load began. */
  range(expr: string): Promise<Series[]>;
  rules(): Promise<Rule[]>;
}

/**
 * Starts both, waits for answers, lets a third shard join under load, and waits until every recording rule has a value.
 * @param copies shards that have each expert at least
 */
export async function startWatched(copies: number): Promise<Watched> {
  await using stack = new AsyncDisposableStack();
  const folder = mkdtempSync(join(tmpdir(), 'causeway-prometheus-'));
  stack.defer(() => rmSync(folder, { recursive: true, force: true }));
  const monitoring = `127.0.0.1:${await freePort()}`;
  const cluster = stack.use(
    await startCluster({
      model: join(ROOT, 'models/tiny-moe'),
      modelName: 'tiny-moe',
      router: true,
      expert: 2,
      nats: { monitoring: false, extraConfig: `http: "${monitoring}"\nwrite_deadline: "2s"` },
      // Families whose storages differ, as in the built-in topology: KV is converted.
      env: { 'prefill-1': { CAUSEWAY_CHIP: 'nvidia' }, 'decode-1': { CAUSEWAY_CHIP: 'ascend' } },
      workerEnv: {
        CAUSEWAY_CHIP_EMULATED: 'on',
        CAUSEWAY_NATS_MONITORING_URL: `http://${monitoring}`,
        CAUSEWAY_EXPERT_COPIES: String(copies),
        CAUSEWAY_EXPERT_HOT_COPIES: '1',
      },
    }),
  );
  const port = await freePort();
  const configure = (): void => writeFileSync(join(folder, 'prometheus.yml'), configuration(cluster));
  configure();
  const server = stack.use(
    new Child({
      command: findBinary('prometheus', 'prometheus'),
      args: [
        `--config.file=${folder}/prometheus.yml`,
        `--storage.tsdb.path=${folder}/data`,
        `--web.listen-address=127.0.0.1:${port}`,
      ],
    }),
  );
  const follow = (): void => {
    configure();
    server.signal('HUP');
  };
  const prometheus = `http://127.0.0.1:${port}`;
  await eventually(async () => (await fetch(`${prometheus}/-/ready`)).ok, { what: 'Prometheus' });
  stack.use(
    startProcess({
      script: join(ROOT, 'services/load/src/main.ts'),
      env: { CAUSEWAY_LOAD_URL: `http://${cluster.router.http}`, CAUSEWAY_LOAD_RATE: '4', CAUSEWAY_LOAD_SEED: '7' },
    }),
  );
  const began = Date.now() / 1000;
  const range = (expr: string): Promise<Series[]> => queryRange(prometheus, expr, began);
  const last = async (expr: string): Promise<number> =>
    Number((await range(expr)).flatMap(({ values }) => values).at(-1)?.[1] ?? 0);
  const answered = async (): Promise<boolean> => (await last('vllm:request_success_total')) > 60;
  await eventually(answered, { timeoutMs: 120_000, intervalMs: 1000, what: 'answers to the load' });
  // A third shard joins: the experts are placed anew, under load.
  const epoch = (): Promise<number> => last('max(causeway_expert_placement_epoch)');
  const first = await epoch();
  await cluster.startWorker('expert', 'expert-3');
  follow();
  await eventually(async () => (await epoch()) > first, { timeoutMs: 60_000, intervalMs: 500, what: 'another placement' });
  // Rules are evaluated every 15 s, each group in its turn.
  const recorded = async (): Promise<boolean> =>
    (await Promise.all(recordedNames().map(range))).every((series) => series.length > 0);
  await eventually(recorded, { timeoutMs: 90_000, intervalMs: 2000, what: 'a value of every recording rule' });
  const owned = stack.move();
  return { cluster, range, follow, rules: () => rulesOf(prometheus), [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** The configuration that Compose has, with this cluster's addresses, scraped every second. */
function configuration(cluster: Cluster): string {
  const config = parse(renderPrometheus(defaultTopology())) as {
    global: Record<string, string>;
    rule_files: string[];
    scrape_configs: { job_name: string; static_configs: { targets: string[]; labels: Record<string, string> }[] }[];
  };
  config.global = { scrape_interval: '1s', evaluation_interval: '1s' };
  config.rule_files = [join(ROOT, 'deploy/prometheus/rules/*.yml')];
  for (const job of config.scrape_configs) {
    const ofRole = cluster.workers.filter(({ role }) => role === job.job_name).map(({ observability }) => observability);
    const [first] = job.static_configs;
    if (first !== undefined) first.targets = job.job_name === 'router' ? [cluster.router.observability] : ofRole;
  }
  return stringify(config);
}

/** Of values that are looked at: Prometheus gives 11,000 of a series at once. */
const LONGEST_S = 1800;

async function queryRange(prometheus: string, expr: string, began: number): Promise<Series[]> {
  const end = Date.now() / 1000;
  const query = new URLSearchParams({
    query: expr.replaceAll('$__rate_interval', '10s'),
    start: String(Math.max(began - 5, end - LONGEST_S)),
    end: String(end),
    step: '1',
  });
  const body = (await (await fetch(`${prometheus}/api/v1/query_range?${query}`)).json()) as {
    status: string;
    error?: string;
    data: { result: Series[] };
  };
  if (body.status !== 'success') throw new Error(`${expr}: ${body.error}`);
  return body.data.result;
}

async function rulesOf(prometheus: string): Promise<Rule[]> {
  const body = (await (await fetch(`${prometheus}/api/v1/rules`)).json()) as { data: { groups: { rules: Rule[] }[] } };
  return body.data.groups.flatMap((group) => group.rules);
}
