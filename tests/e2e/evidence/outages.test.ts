/** NATS and Redis come and go: attempts end in time, with the right answer or a typed error, and workers need no restart. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ServiceError } from '@causeway/errors';
import { workerKey } from '@causeway/registry';
import {
  type AttemptResult,
  type ClusterWorker,
  eventually,
  freePort,
  type LogLine,
  type ServiceProcess,
  startNats,
  startProcess,
  startRedis,
} from '@causeway/testkit';
import { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { recordsOf } from './frame-tap.ts';
import {
  chosen,
  firstDifference,
  heldAt,
  idle,
  release,
  SMALL_MEMORY,
  startTestCluster,
  type TestCluster,
  TINY_MOE,
} from './harness.ts';

const GENERATION = {
  promptIds: Array.from({ length: 1000 }, (_, i) => 3 + ((i * 37) % 2000)),
  maxTokens: 40,
  ignoreEos: true,
  returnLogits: true,
};
const TICKET_MS = 30_000;
const SHORT_TICKET_MS = 3_000;
/** What a decode worker waits for `recompute` after a lost transfer, and a busy machine. */
const GRACE_MS = 15_000;

describe('a cluster that has started', () => {
  let folder: string;
  let cluster: TestCluster;
  let undisturbed: AttemptResult;
  let pids: number[];
  const workers = (): ClusterWorker[] => ['prefill-1', 'decode-1', 'decode-2'].map((id) => cluster.worker(id));

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'causeway-outages-'));
    cluster = await startTestCluster({
      model: TINY_MOE,
      decode: 2,
      nats: { maxPayload: 65_536 },
      workerEnv: { CAUSEWAY_KV_CODEC: 'none', CAUSEWAY_TICKET_DEADLINE_MS: String(TICKET_MS) },
      env: { 'decode-2': { CAUSEWAY_TICKET_DEADLINE_MS: String(SHORT_TICKET_MS) } },
    });
    undisturbed = await cluster.attempt(GENERATION);
    pids = workers().map((worker) => worker.process.pid);
  });
  afterAll(async () => {
    await cluster?.[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  });

  // A test that fails while a server is stopped must not take the others with it.
  afterEach(async () => {
    if (cluster !== undefined) await Promise.all([cluster.nats.start(), cluster.redis.start()]);
  });

  /** A prefill worker that holds its first transfer after three frames, and what lets it go. */
  async function holding(id: string): Promise<Holding> {
    const go = join(folder, id);
    await mkdir(go);
    const recording = join(go, 'frames');
    const worker = await cluster.startWorker('prefill', id, {
      CAUSEWAY_KV_RECORD: recording,
      CAUSEWAY_FAILPOINTS: 'after_frame_k:3=pause',
      CAUSEWAY_FAILPOINT_DIR: go,
    });
    return {
      worker,
      held: () => heldAt(go, 'after_frame_k', worker),
      release: () => release(go, 'after_frame_k'),
      recording,
    };
  }

  interface Holding {
    worker: ClusterWorker;
    held(): Promise<void>;
    release(): Promise<void>;
    /** Every frame that it has published. */
    recording: string;
  }

  /** How an attempt ended, and after how long. */
  async function outcome(attempt: Promise<AttemptResult>): Promise<{ result?: AttemptResult; error?: unknown; ms: number }> {
    const start = performance.now();
    return attempt.then(
      (result) => ({ result, ms: performance.now() - start }),
      (error: unknown) => ({ error, ms: performance.now() - start }),
    );
  }

  /** Right answer or typed error, in time. */
  function expectHonest(what: string, { result, error, ms }: Awaited<ReturnType<typeof outcome>>, deadlineMs: number): void {
    expect(ms).toBeLessThan(deadlineMs + GRACE_MS);
    if (result === undefined) {
      expect(error).toBeInstanceOf(ServiceError);
      expect((error as ServiceError).reason).not.toBe('internal');
      console.log(`${what}: ${(error as ServiceError).reason} after ${ms.toFixed(0)} ms`);
    } else {
      expect(firstDifference(chosen(result), chosen(undisturbed))).toBeUndefined();
      console.log(`${what}: completed after ${ms.toFixed(0)} ms, ${result.sent?.stats?.resentParts} parts sent again`);
    }
  }

  /** The same processes answer as before. */
  async function stillWorks(...prefills: string[]): Promise<void> {
    for (const worker of workers()) await worker.process.waitReady(worker.observability);
    for (const prefill of ['prefill-1', ...prefills]) {
      for (const decode of ['decode-1', 'decode-2']) {
        const result = await cluster.attempt(GENERATION, { prefill, decode });
        expect(firstDifference(chosen(result), chosen(undisturbed)), `${prefill} -> ${decode}`).toBeUndefined();
        await idle(cluster.worker(prefill));
        await idle(cluster.worker(decode));
      }
    }
    expect(workers().map((worker) => worker.process.pid)).toEqual(pids);
    expect(workers().every((worker) => worker.process.exit === undefined)).toBe(true);
  }

  it.each(['TERM', 'KILL'] as const)('NATS restarted by %s while KV travels', async (signal) => {
    const sender = await holding(`held-${signal.toLowerCase()}`);
    const running = outcome(cluster.attempt(GENERATION, { prefill: sender.worker.id }));
    await sender.held();
    await cluster.nats.signal(signal);
    await cluster.nats.start();
    await sender.release();
    expectHonest(`NATS restarted by ${signal} after three frames`, await running, TICKET_MS);
    await stillWorks(sender.worker.id);
    await sender.worker.process.stop();
  });

  it('frames lost in NATS are sent again', async () => {
    const sender = await holding('held-lost');
    let transfer = '';
    const running = outcome(
      cluster.attempt(GENERATION, {
        prefill: sender.worker.id,
        onEvent: ({ event }) => {
          if (event?.$case === 'ticket') transfer = Buffer.from(event.value.transferId).toString('hex');
        },
      }),
    );
    await sender.held();
    // A stopped server takes frames into its sockets only; killed, it has lost them.
    await cluster.nats.signal('STOP');
    await sender.release();
    await eventually(async () => (await recordsOf(sender.recording, transfer)).length > 3, {
      what: 'frames to a stopped server',
    });
    await cluster.nats.signal('KILL');
    await cluster.nats.start();
    const ended = await running;
    expectHonest('frames lost in NATS', ended, TICKET_MS);
    expect(ended.result?.sent?.stats?.resentParts).toBeGreaterThan(0);
    await stillWorks(sender.worker.id);
    await sender.worker.process.stop();
  });

  it('NATS away for longer than the transfer may take', async () => {
    const sender = await holding('held-away');
    const running = outcome(cluster.attempt(GENERATION, { prefill: sender.worker.id, decode: 'decode-2' }));
    await sender.held();
    await cluster.nats.signal('KILL');
    await sender.release();
    const ended = await running;
    expect(ended.error).toBeInstanceOf(ServiceError);
    expectHonest('NATS away', ended, SHORT_TICKET_MS);
    // While it is away, a new attempt is refused at once and a local one is answered.
    const refused = await outcome(cluster.attempt(GENERATION));
    expect(refused.error).toMatchObject({ code: 'unavailable', reason: 'dependency_unavailable' });
    const local = await cluster.attempt(GENERATION, { local: true });
    expect(firstDifference(chosen(local), chosen(undisturbed))).toBeUndefined();
    await cluster.nats.start();
    await stillWorks(sender.worker.id);
    await sender.worker.process.stop();
  });

  it('NATS restarted while the answer is written', async () => {
    const restarted: Promise<void>[] = [];
    const result = await cluster.attempt(GENERATION, {
      onEvent: ({ event }) => {
        if (event?.$case === 'token' && restarted.length === 0) {
          restarted.push(cluster.nats.signal('KILL').then(() => cluster.nats.start()));
        }
      },
    });
    expect(restarted).toHaveLength(1);
    await restarted[0];
    expect(firstDifference(chosen(result), chosen(undisturbed))).toBeUndefined();
    await stillWorks();
  });

  it('Redis restarted during a request: the answer is unchanged and the workers register again', async () => {
    const sender = await holding('held-redis');
    const before = await registered(cluster.redis.url, ['prefill-1', 'decode-1']);
    const running = outcome(cluster.attempt(GENERATION, { prefill: sender.worker.id }));
    await sender.held();
    // Nothing is kept on disk: it comes back empty.
    await cluster.redis.signal('KILL');
    await cluster.redis.start();
    await sender.release();
    const ended = await running;
    expect(ended.error).toBeUndefined();
    expectHonest('Redis restarted', ended, TICKET_MS);
    await stillWorks(sender.worker.id);
    expect(await registered(cluster.redis.url, ['prefill-1', 'decode-1'])).toEqual(before);
    await sender.worker.process.stop();
  });
});

describe('a worker that starts before its servers', () => {
  const DEADLINE_MS = 3_000;
  const cases = (['prefill', 'decode'] as const).flatMap((role) =>
    (['NATS', 'Redis'] as const).map((absent) => ({ role, absent })),
  );

  it.each(cases)('$role without $absent waits, says for what, and gives up by its deadline', async ({ role, absent }) => {
    await using nats = await startNats();
    await using redis = await startRedis();
    const port = await freePort();
    await using worker = startWorkerProcess(role, {
      CAUSEWAY_NATS_URL: absent === 'NATS' ? `nats://127.0.0.1:${port}` : nats.url,
      CAUSEWAY_REDIS_URL: absent === 'Redis' ? `redis://127.0.0.1:${port}` : redis.url,
      CAUSEWAY_STARTUP_DEADLINE_MS: String(DEADLINE_MS),
    });
    const waiting = await worker.waitForLog((line) => String(line.msg).startsWith(`waiting for ${absent} at`), 120_000);
    expect(waiting.msg).toContain(`127.0.0.1:${port}`);
    expect(waiting.level).toBe('warn');
    const { code } = await worker.exited;
    expect(code).toBe(1);
    const fatal = worker.logs().find((line) => line.level === 'fatal')!;
    expect(fatal.err).toMatchObject({ code: 'unavailable', reason: 'dependency_unavailable' });
    expect(String((fatal.err as LogLine).message)).toMatch(
      new RegExp(
        `^${absent} at \\S*127\\.0\\.0\\.1:${port}.* did not answer within ${DEADLINE_MS} ms.*start it, or correct its address`,
      ),
    );
    const waited = Date.parse(String(fatal.time)) - Date.parse(String(waiting.time));
    expect(waited).toBeLessThan(DEADLINE_MS + 2_000);
    expect(worker.logs().some((line) => line.msg === 'ready')).toBe(false);
  });

  it('is ready once both have come', async () => {
    const [natsPort, redisPort] = [await freePort(), await freePort()];
    await using worker = startWorkerProcess('decode', {
      CAUSEWAY_NATS_URL: `nats://127.0.0.1:${natsPort}`,
      CAUSEWAY_REDIS_URL: `redis://127.0.0.1:${redisPort}`,
      CAUSEWAY_STARTUP_DEADLINE_MS: '120000',
    });
    await worker.waitForLog((line) => String(line.msg).startsWith('waiting for NATS at'), 120_000);
    await using _nats = await startNats({ port: natsPort });
    await worker.waitForLog((line) => String(line.msg).startsWith('waiting for Redis at'), 60_000);
    await using _redis = await startRedis({ port: redisPort });
    const ready = await worker.waitForLog((line) => line.msg === 'ready', 60_000);
    await worker.waitReady(String(ready.observability));
    expect((await worker.stop()).code).toBe(0);
  });
});

function startWorkerProcess(role: 'prefill' | 'decode', env: Readonly<Record<string, string>>): ServiceProcess {
  return startProcess({
    script: fileURLToPath(new URL(`../../../services/${role}/src/main.ts`, import.meta.url)),
    env: { CAUSEWAY_WORKER_ID: 'early', CAUSEWAY_MODEL_PATH: TINY_MOE, ...SMALL_MEMORY, ...env },
  });
}

/** Incarnations under which workers are registered; waits until all are. */
async function registered(url: string, ids: readonly string[]): Promise<string[]> {
  const redis = new Redis(url);
  try {
    return await eventually(
      async () => {
        const values = await Promise.all(ids.map((id) => redis.get(workerKey(id))));
        return values.every((value) => value !== null)
          ? values.map((value) => (JSON.parse(value!.slice(0, value!.indexOf('\n'))) as { incarnation: string }).incarnation)
          : undefined;
      },
      { timeoutMs: 30_000, what: `${ids.join(', ')} registered` },
    );
  } finally {
    redis.disconnect();
  }
}
