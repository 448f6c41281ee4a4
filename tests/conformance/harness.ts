/** A router process, Redis and scripted workers, as the tests of this folder need them. */
import { fileURLToPath } from 'node:url';
import { loadTokenizer, openCheckpoint, type Tokenizer } from '@causeway/model-files';
import { eventually, type RedisServer, scrape, type ServiceProcess, startProcess, startRedis } from '@causeway/testkit';
import OpenAI from 'openai';
import { Fabric, type FakeScript, type FakeWorker, type FakeWorkerOptions, startFakeWorker } from './fake-worker.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
export const MODEL_PATH = `${ROOT}models/tiny-moe`;

export interface Harness extends AsyncDisposable {
  readonly redis: RedisServer;
  readonly fabric: Fabric;
  readonly router: ServiceProcess;
  /** `http://host:port` */
  readonly url: string;
  /** `host:port` */
  readonly grpc: string;
  readonly observability: string;
  readonly openai: OpenAI;
  readonly workers: ReadonlyMap<string, FakeWorker>;
  worker(id: string): FakeWorker;
  addWorker(options: Pick<FakeWorkerOptions, 'id' | 'role'> & Partial<FakeWorkerOptions>): Promise<FakeWorker>;
  /** Sets the script of every worker and forgets what happened. */
  play(script: FakeScript): void;
  post(path: string, body: unknown): Promise<Response>;
  /** Waits until no call runs at any worker. */
  quiet(): Promise<void>;
  /** Sum of a metric over its labels; the router must export it. */
  metric(name: string, labels?: Readonly<Record<string, string>>): Promise<number>;
}

export interface HarnessOptions {
  env?: Readonly<Record<string, string>>;
  /** Ids such as `prefill-0`, `decode-1`; the role is the part before the dash. */
  workers?: readonly string[];
  worker?: Partial<FakeWorkerOptions>;
}

/** Starts Redis, the workers and the router, and waits until the router sees all of them. */
export async function startHarness(options: HarnessOptions = {}): Promise<Harness> {
  await using starting = new AsyncDisposableStack();
  let stack = starting;
  const redis = stack.use(await startRedis());
  const fabric = new Fabric();
  const workers = new Map<string, FakeWorker>();
  const addWorker: Harness['addWorker'] = async (worker) => {
    const started = await startFakeWorker({
      redisUrl: redis.url,
      fabric,
      script: { answer: [1] },
      ...options.worker,
      ...worker,
    });
    stack.use(started);
    workers.set(started.id, started);
    return started;
  };
  for (const id of options.workers ?? ['prefill-0', 'decode-0']) {
    await addWorker({ id, role: id.startsWith('prefill') ? 'prefill' : 'decode' });
  }
  const router = stack.use(
    startProcess({
      script: `${ROOT}services/router/src/main.ts`,
      env: {
        CAUSEWAY_REDIS_URL: redis.url,
        CAUSEWAY_MODEL_PATH: MODEL_PATH,
        CAUSEWAY_HTTP_PORT: '0',
        CAUSEWAY_GRPC_PORT: '0',
        CAUSEWAY_LOCAL_PREFILL_TOKENS: '0',
        ...options.env,
      },
    }),
  );
  const ready = await router.waitForLog((line) => line['msg'] === 'ready', 30_000);
  const observability = String(ready['observability']);
  const url = `http://${String(ready['http'])}`;
  const owned = starting.move();
  stack = owned;
  return {
    redis,
    fabric,
    router,
    url,
    grpc: String(ready['grpc']),
    observability,
    openai: new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 }),
    workers,
    worker: (id) => {
      const found = workers.get(id);
      if (found === undefined) throw new Error(`no worker ${id}`);
      return found;
    },
    addWorker,
    play: (script) => {
      fabric.events.length = 0;
      for (const worker of workers.values()) worker.script = script;
    },
    post: (path, body) =>
      fetch(`${url}${path}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: typeof body === 'string' ? body : JSON.stringify(body),
      }),
    quiet: async () => {
      await eventually(() => [...workers.values()].every((worker) => worker.activeCalls === 0), {
        what: 'no call at any worker',
      });
    },
    metric: async (name, labels) => (await scrape({ observability }))(name, labels),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** The tokenizer that the router uses. */
export async function testTokenizer(): Promise<Tokenizer> {
  using checkpoint = await openCheckpoint(MODEL_PATH);
  if (checkpoint.tokenizerSource === undefined) throw new Error('tiny-moe has no tokenizer');
  return loadTokenizer(checkpoint.tokenizerSource);
}
