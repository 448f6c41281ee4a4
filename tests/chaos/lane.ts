/** A cluster in which cells of the failure table happen one after the other. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Cluster, type ClusterRouter, type ClusterWorker, eventually, type LogLine, startCluster } from '@causeway/testkit';
import { ARMING, type Cell, spareRole } from './cells.ts';
import { longRequest, MAX_TOKENS, type Reference } from './answers.ts';
import { startAnswer } from './client.ts';
import { metric } from './metric.ts';

const MODEL = fileURLToPath(new URL('../../models/tiny-moe', import.meta.url));
/** Small messages: the prompt's KV takes some 25 frames. */
const MAX_PAYLOAD = 65_536;

/** Log lines that explain no failure. */
const DULL = new Set(['loading weights', 'sending KV', 'loading the model', 'the event loop was busy for too long']);

export class Lane implements AsyncDisposable {
  readonly cluster: Cluster;
  readonly #folder: string;
  readonly #references: ReadonlyMap<number, Reference>;
  readonly #spares = new Set<string>();
  readonly #owned: AsyncDisposableStack;
  #cells = 0;

  private constructor(cluster: Cluster, folder: string, references: ReadonlyMap<number, Reference>, owned: AsyncDisposableStack) {
    this.cluster = cluster;
    this.#folder = folder;
    this.#references = references;
    this.#owned = owned;
  }

  /** Starts the cluster and takes the undisturbed answers. */
  static async start(temperatures: readonly number[]): Promise<Lane> {
    await using stack = new AsyncDisposableStack();
    const cluster = stack.use(await startCluster({ model: MODEL, router: true, nats: { maxPayload: MAX_PAYLOAD } }));
    const folder = await mkdtemp(join(tmpdir(), 'causeway-chaos-'));
    stack.defer(() => rm(folder, { recursive: true, force: true }));
    const references = new Map<number, Reference>();
    for (const temperature of temperatures) {
      const request = longRequest({ api: 'grpc', temperature }, `reference-${temperature}`, AbortSignal.timeout(60_000));
      const received = await startAnswer(cluster.router, request).done;
      if (received.error !== undefined) throw received.error;
      if (received.attempts !== 1 || received.outcome !== 'used' || received.ids.length !== MAX_TOKENS) {
        throw new Error(`the undisturbed answer is not what the cells need: ${JSON.stringify(received)}`);
      }
      references.set(temperature, { ids: received.ids, text: received.text });
    }
    return new Lane(cluster, folder, references, stack.move());
  }

  reference(temperature: number): Reference {
    const reference = this.#references.get(temperature);
    if (reference === undefined) throw new Error(`no undisturbed answer at temperature ${temperature}`);
    return reference;
  }

  get router(): ClusterRouter {
    return this.cluster.router;
  }

  /** By `prefill-1`, `prefill-2`, `decode-1` or `decode-2`. */
  worker(id: string): ClusterWorker {
    return this.cluster.worker(id);
  }

  /**
   * One worker of each role, two where the cell has a spare, and a router that sees them; the cell's failpoint is armed in
   * processes that have not passed it yet. Gives the folder in which the failpoint is met.
   */
  async prepare(cell: Cell): Promise<string> {
    const dir = await mkdtemp(join(this.#folder, `${++this.#cells}-`));
    const arming = ARMING[cell.phase];
    const envOf = (process: 'router' | 'prefill' | 'decode'): Record<string, string> =>
      arming.process === process ? { CAUSEWAY_FAILPOINTS: arming.spec, CAUSEWAY_FAILPOINT_DIR: dir } : {};
    const anew = arming.process === 'router' ? [] : [arming.process];
    await Promise.all([this.router.process.stop(), ...anew.map((role) => this.worker(`${role}-1`).process.stop())]);
    const spare = spareRole(cell);
    await Promise.all([
      this.cluster.startRouter({ CAUSEWAY_RECOVERY: cell.recovery, CAUSEWAY_LOG_LEVEL: 'debug', ...envOf('router') }),
      ...anew.map((role) => this.cluster.startWorker(role, `${role}-1`, envOf(role))),
      ...(spare === undefined ? [] : [this.#startSpare(spare, envOf(spare))]),
    ]);
    await this.whole();
    return dir;
  }

  /** The workers of a request's latest attempt, as the router planned it. */
  async attempt(requestId: string): Promise<{ prefill: string; decode: string }> {
    const begins = (log: LogLine): boolean => log['msg'] === 'an attempt begins' && log['requestId'] === requestId;
    const log = await eventually(() => this.router.process.logs().findLast(begins), { what: `an attempt at ${requestId}` });
    return { prefill: String(log['prefillWorker']), decode: String(log['decodeWorker']) };
  }

  /** The workers of a role that run now. */
  workers(role: 'prefill' | 'decode'): ClusterWorker[] {
    return this.#workers().filter((worker) => worker.role === role);
  }

  async stopSpares(): Promise<void> {
    const spares = [...this.#spares];
    this.#spares.clear();
    await Promise.all(spares.map((id) => this.worker(id).process.stop()));
  }

  /** Starts a killed worker again, as an orchestrator would. */
  async restartWorker(id: string): Promise<void> {
    await this.cluster.startWorker(roleOf(id), id);
  }

  async #startSpare(role: 'prefill' | 'decode', env: Record<string, string>): Promise<void> {
    await this.cluster.startWorker(role, `${role}-2`, env);
    this.#spares.add(`${role}-2`);
  }

  /** Waits until every process is ready and the router sees every worker. */
  async whole(): Promise<void> {
    for (const worker of this.#workers()) await worker.process.waitReady(worker.observability, 30_000);
    await this.#seen();
  }

  /** Waits until no request is left anywhere and every page is free. */
  async idle(): Promise<void> {
    const running = 'vllm:num_requests_running{model_name="tiny-moe"}';
    await eventually(async () => ((await metric(this.router.observability, running)) ?? 0) === 0, {
      timeoutMs: 30_000,
      what: 'no request at the router',
    });
    for (const worker of this.#workers()) {
      await eventually(async () => (await metric(worker.observability, 'causeway_kv_pages{state="used"}')) === 0, {
        timeoutMs: 30_000,
        what: `all pages of ${worker.id} free`,
      });
    }
  }

  /** What the processes said of late, all in order of time, for a failure's message. */
  story(lines = 45): string {
    const processes = [this.router.process, ...this.#workers().map((worker) => worker.process)];
    return processes
      .flatMap((process) => process.logs())
      .filter(({ msg, workerId, receiver }) => !DULL.has(String(msg)) && (receiver === undefined || receiver !== workerId))
      .toSorted((a, b) => (String(a['time']) < String(b['time']) ? -1 : 1))
      .slice(-lines)
      .map(({ level: _level, time, service, pid, workerId, incarnation: _incarnation, msg, ...rest }) => {
        const clock = String(time).slice(11, 23);
        return `${clock} ${String(workerId ?? service)}/${String(pid)} ${String(msg)} ${JSON.stringify(rest).slice(0, 200)}`;
      })
      .join('\n');
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#owned.disposeAsync();
  }

  #workers(): ClusterWorker[] {
    return ['prefill-1', 'decode-1', ...this.#spares].map((id) => this.worker(id));
  }

  async #seen(): Promise<void> {
    const workers = this.#workers();
    await eventually(
      async () => {
        const { observability } = this.router;
        for (const role of ['prefill', 'decode'] as const) {
          const count = workers.filter((worker) => worker.role === role).length;
          if ((await metric(observability, `causeway_registry_workers{role="${role}"}`)) !== count) return false;
        }
        return true;
      },
      { timeoutMs: 30_000, what: `the router to see ${workers.map((worker) => worker.id).join(', ')}` },
    );
  }
}

function roleOf(id: string): 'prefill' | 'decode' {
  return id.startsWith('prefill') ? 'prefill' : 'decode';
}
