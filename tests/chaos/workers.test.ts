/** Failures of workers and of what they depend on, each met by running answers: no token lost or doubled. Processes are real. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { WORKER_INDEX_KEY, workerKey } from '@causeway/registry';
import { type Cluster, type ClusterWorker, eventually, startCluster } from '@causeway/testkit';
import { Redis } from 'ioredis';
import { connect } from 'nats';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { difference, MAX_TOKENS, PROMPT, type Reference } from './answers.ts';
import { type AnswerRequest, type Received, type RunningAnswer, startAnswer } from './client.ts';
import { metric } from './metric.ts';

const MODEL = fileURLToPath(new URL('../../models/tiny-moe', import.meta.url));
const LIMIT_MS = 120_000;
const OTHER_PROMPT = PROMPT.replace('Count from 1 to', 'Count from 3 to');

let cluster: Cluster;
let folder: string;
let reference: Reference;
let other: Reference;
let asked = 0;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'causeway-chaos-'));
  cluster = await startCluster({
    model: MODEL,
    router: true,
    decode: 2,
    nats: { maxPayload: 65_536 },
    env: { router: { CAUSEWAY_LOG_LEVEL: 'debug', CAUSEWAY_RECOVERY: 'exact' } },
  });
  reference = await undisturbed(PROMPT);
  other = await undisturbed(OTHER_PROMPT);
}, LIMIT_MS);

afterAll(async () => {
  await cluster[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
}, LIMIT_MS);

/** Every test begins with a whole, idle cluster. */
beforeEach(async () => {
  await cluster.nats.start();
  await cluster.redis.start();
  for (const worker of cluster.workers) if (worker.process.exit !== undefined) await again(worker);
  await whole();
}, LIMIT_MS);

function ask(options: Partial<AnswerRequest> = {}): RunningAnswer & { id: string } {
  const requestId = `workers-${++asked}`;
  const running = startAnswer(cluster.router, {
    api: 'grpc',
    prompt: PROMPT,
    maxTokens: MAX_TOKENS,
    temperature: 0,
    seed: 7,
    placement: 'auto',
    requestId,
    signal: AbortSignal.timeout(LIMIT_MS),
    ...options,
  });
  return { ...running, id: requestId };
}

async function undisturbed(prompt: string): Promise<Reference> {
  const received = await ask({ prompt }).done;
  expect(received).toMatchObject({ error: undefined, outcome: 'used', attempts: 1, completionTokens: MAX_TOKENS });
  return { ids: received.ids, text: received.text };
}

/** Fails unless the answer is the undisturbed one. */
function expectUndisturbed(received: Received, expected = reference): void {
  expect(difference(received, expected, 'grpc')).toBeUndefined();
}

/** Waits until the client has some tokens: the answer is in its middle. */
async function midAnswer(running: RunningAnswer, tokens = 9): Promise<void> {
  await eventually(() => running.received.ids.length >= tokens, { intervalMs: 2, timeoutMs: 30_000, what: 'tokens' });
  expect(running.received.ended).toBe(false);
}

/** The decode worker that serves a request. */
async function decoder(id: string): Promise<ClusterWorker> {
  const log = await eventually(() =>
    cluster.router.process.logs().findLast((line) => line['msg'] === 'an attempt begins' && line['requestId'] === id),
  );
  return cluster.worker(String(log['decodeWorker']));
}

async function again(worker: ClusterWorker, env: Readonly<Record<string, string>> = {}): Promise<ClusterWorker> {
  const started = await cluster.startWorker(worker.role, worker.id, env);
  await whole();
  return started;
}

/** Waits until every worker is ready, seen by the router and without a used page. */
async function whole(): Promise<void> {
  for (const worker of cluster.workers) {
    await worker.process.waitReady(worker.observability, 30_000);
    await eventually(async () => (await metric(worker.observability, 'causeway_kv_pages{state="used"}')) === 0, {
      what: `all pages of ${worker.id} free`,
    });
  }
  await seen({ prefill: 1, decode: 2 });
}

/** Waits until the router sees so many workers. */
async function seen(counts: { prefill: number; decode: number }): Promise<void> {
  for (const [role, count] of Object.entries(counts)) {
    const name = `causeway_registry_workers{role="${role}"}`;
    await eventually(async () => (await metric(cluster.router.observability, name)) === count, { what: `${count} ${role} seen` });
  }
}

/** Arms failpoints in a new process of a worker or in a new router. */
async function armed(
  id: string,
  spec: string,
): Promise<{ met(name: string): Promise<void>; release(name: string): Promise<void> }> {
  const dir = await mkdtemp(join(folder, `${id}-`));
  const env = { CAUSEWAY_FAILPOINTS: spec, CAUSEWAY_FAILPOINT_DIR: dir };
  if (id === 'router') {
    await cluster.router.process.stop();
    await cluster.startRouter(env);
  } else {
    await cluster.worker(id).process.stop();
    await again(cluster.worker(id), env);
  }
  await whole();
  const { pid } = id === 'router' ? cluster.router.process : cluster.worker(id).process;
  return {
    met: async (name) => {
      await eventually(() => existsSync(join(dir, `${name}.${pid}.hit`)), { timeoutMs: 30_000, intervalMs: 2, what: name });
    },
    release: (name) => writeFile(join(dir, `${name}.go`), ''),
  };
}

describe('the prefill worker', () => {
  it(
    'dies after the commit: the decode worker goes on alone, and later answers do without',
    async () => {
      const failpoint = await armed('router', 'mid_decode:8=pause');
      const running = ask();
      await failpoint.met('mid_decode');
      await cluster.worker('prefill-1').process.kill();
      await failpoint.release('mid_decode');
      const received = await running.done;
      expectUndisturbed(received);
      expect(received).toMatchObject({ attempts: 1, outcome: 'used' });
      const alone = await ask().done;
      expectUndisturbed(alone);
      expect(['local', 'recomputed']).toContain(alone.outcome);
    },
    LIMIT_MS,
  );

  it(
    'dies while two prompts wait for it: both are answered',
    async () => {
      const { observability, process } = cluster.worker('prefill-1');
      const running = [ask({ placement: 'disaggregated' }), ask({ placement: 'disaggregated', prompt: OTHER_PROMPT })];
      await eventually(async () => ((await metric(observability, 'causeway_kv_pages{state="used"}')) ?? 0) > 0, {
        intervalMs: 2,
        what: 'a prompt at the prefill worker',
      });
      await process.kill();
      await again(cluster.worker('prefill-1'));
      const [first, second] = await Promise.all(running.map((one) => one.done));
      expectUndisturbed(first!);
      expectUndisturbed(second!, other);
    },
    LIMIT_MS,
  );
});

describe('the other end of a transfer', () => {
  it.each([
    // The one that keeps its lease is not blamed for the silence of the other.
    { silent: 'prefill-1', point: 'after_frame_k:7=pause' },
    { silent: 'decode-1', point: 'after_frame_k:7=pause' },
  ])(
    '$silent, stopped for longer than a silence may last, does not hold the answer up',
    async ({ silent, point }) => {
      await cluster.worker('decode-2').process.stop();
      const silence = { CAUSEWAY_KV_SILENCE_MS: '2000' };
      const dir = await mkdtemp(join(folder, 'silence-'));
      await Promise.all(['decode-1', 'prefill-1'].map((id) => cluster.worker(id).process.stop()));
      await cluster.startWorker('decode', 'decode-1', silence);
      const prefill = await cluster.startWorker('prefill', 'prefill-1', {
        ...silence,
        CAUSEWAY_FAILPOINTS: point,
        CAUSEWAY_FAILPOINT_DIR: dir,
      });
      await seen({ prefill: 1, decode: 1 });
      const running = ask({ placement: 'disaggregated' });
      await eventually(() => existsSync(join(dir, `after_frame_k.${prefill.process.pid}.hit`)), {
        intervalMs: 2,
        what: 'frames',
      });
      const victim = cluster.worker(silent);
      victim.process.signal('STOP');
      await writeFile(join(dir, 'after_frame_k.go'), '');
      try {
        if (silent.startsWith('decode')) await cluster.startWorker('decode', 'decode-2');
        const received = await running.done;
        expectUndisturbed(received);
        expect(received.decodeWorker).toBe(silent === 'decode-1' ? 'decode-2' : 'decode-1');
        if (silent === 'prefill-1') expect(received).toMatchObject({ attempts: 1, outcome: 'recomputed' });
      } finally {
        victim.process.signal('CONT');
        if (cluster.worker('decode-2').process.exit !== undefined) await cluster.startWorker('decode', 'decode-2');
      }
      for (const worker of cluster.workers) expect(worker.process.exit).toBeUndefined();
      await whole();
    },
    LIMIT_MS,
  );
});

describe('a decode worker', () => {
  it(
    'dies in mid answer while two clients read: both answers are whole',
    async () => {
      const running = [ask(), ask({ prompt: OTHER_PROMPT })] as const;
      await Promise.all(running.map((one) => midAnswer(one)));
      await (await decoder(running[0].id)).process.kill();
      const [first, second] = await Promise.all([running[0].done, running[1].done]);
      expectUndisturbed(first);
      expectUndisturbed(second, other);
      expect(Math.max(first.attempts ?? 0, second.attempts ?? 0)).toBeGreaterThan(1);
    },
    LIMIT_MS,
  );

  it(
    'drains: what runs there ends there, nothing new begins there, exit 0',
    async () => {
      const running = ask();
      await midAnswer(running);
      const worker = await decoder(running.id);
      worker.process.signal('TERM');
      await eventually(() => worker.process.logs().some((line) => line['state'] === 'draining'));
      const received = await running.done;
      expectUndisturbed(received);
      expect(received).toMatchObject({ attempts: 1, decodeWorker: worker.id });
      expect(await worker.process.exited).toMatchObject({ code: 0 });
      const next = await ask().done;
      expectUndisturbed(next);
      expect(next.decodeWorker).not.toBe(worker.id);
    },
    LIMIT_MS,
  );

  it(
    'drains with too little time: another one takes the answer over',
    async () => {
      for (const worker of cluster.workers.filter(({ role }) => role === 'decode')) {
        await worker.process.stop();
        await again(worker, { CAUSEWAY_DRAIN_MS: '50' });
      }
      const running = ask();
      await midAnswer(running);
      const worker = await decoder(running.id);
      worker.process.signal('TERM');
      const received = await running.done;
      expectUndisturbed(received);
      expect(received.attempts).toBeGreaterThan(1);
      expect(received.decodeWorker).not.toBe(worker.id);
      await worker.process.exited;
    },
    LIMIT_MS,
  );

  it(
    'comes back as a new incarnation: frames meant for the old one are dropped, whoever repeats them',
    async () => {
      const tap = await connect({ servers: cluster.nats.url });
      await using _tap = { [Symbol.asyncDispose]: () => tap.close() };
      const frames: { subject: string; data: Uint8Array }[] = [];
      tap.subscribe('causeway.v1.kv.>', { callback: (_error, { subject, data }) => void frames.push({ subject, data }) });
      await tap.flush();
      const failpoint = await armed('prefill-1', 'after_frame_k:7=pause');
      frames.length = 0;
      const running = ask({ placement: 'disaggregated' });
      await failpoint.met('after_frame_k');
      await eventually(() => frames.length >= 7, { what: 'seven frames' });
      const old = await decoder(running.id);
      const before = old.process.logs().find((line) => line['msg'] === 'ready');
      await old.process.kill();
      // Not `again`: the paused prefill worker still holds the pages of the first attempt.
      const worker = await cluster.startWorker('decode', old.id);
      const after = worker.process.logs().find((line) => line['msg'] === 'ready');
      expect(after?.['incarnation']).not.toBe(before?.['incarnation']);

      const stale = 'causeway_kv_stale_frames_total';
      expect(await metric(worker.observability, stale)).toBe(0);
      const meant = frames.filter(({ subject }) => subject.includes(`.${String(before?.['incarnation'])}.`));
      expect(meant.length).toBeGreaterThanOrEqual(7);
      for (const { subject, data } of meant) {
        tap.publish(subject.replace(String(before?.['incarnation']), String(after?.['incarnation'])), data);
      }
      await eventually(async () => (await metric(worker.observability, stale)) === meant.length, {
        what: `${meant.length} stale frames`,
      });
      await failpoint.release('after_frame_k');
      expectUndisturbed(await running.done);
      await whole();
    },
    LIMIT_MS,
  );
});

describe('NATS away', () => {
  it(
    'new answers and broken ones go on without transfers; whoever insists on one waits for it',
    async () => {
      const running = ask();
      await midAnswer(running);
      await cluster.nats.signal('KILL');
      const lost = await decoder(running.id);
      await lost.process.kill();
      const received = await running.done;
      expectUndisturbed(received);
      expect(received.attempts).toBeGreaterThan(1);
      expect(received.outcome).toBe('recomputed');
      const fresh = await ask().done;
      expectUndisturbed(fresh);
      expect(fresh.outcome).toBe('recomputed');

      const patient = ask({ placement: 'disaggregated' });
      await decoder(patient.id);
      await cluster.nats.start();
      const waited = await patient.done;
      expectUndisturbed(waited);
      expect(waited.outcome).toBe('used');
    },
    LIMIT_MS,
  );
});

describe('Redis in service', () => {
  it(
    'filled with rubbish under our keys, then emptied: answers go on and workers register anew',
    async () => {
      const running = ask();
      await midAnswer(running);
      const ignored = (await metric(cluster.router.observability, 'causeway_registry_ignored_records_total')) ?? 0;
      const redis = new Redis(cluster.redis.url);
      try {
        await redis.del(WORKER_INDEX_KEY);
        await redis.set(WORKER_INDEX_KEY, 'not a set');
        await redis.set(workerKey('prefill-1'), '{"version":1,"id":');
        await redis.set(workerKey('decode-1'), JSON.stringify({ version: 99, id: 'decode-1', address: 'localhost:1' }));
        await redis.del(workerKey('decode-2'));
        await redis.rpush(workerKey('decode-2'), ...Array.from({ length: 1000 }, () => 'x'.repeat(1000)));
        await redis.set(workerKey('ghost'), 'x'.repeat(5_000_000));
        await eventually(
          async () => ((await metric(cluster.router.observability, 'causeway_registry_ignored_records_total')) ?? 0) > ignored,
          { what: 'rubbish noticed' },
        );
        expectUndisturbed(await running.done);
        await whole();
        await redis.sadd(WORKER_INDEX_KEY, 'ghost', 'not an id!', '\u0000\u0001', 'y'.repeat(100_000));
        expectUndisturbed(await ask().done);
        await redis.flushall();
        expectUndisturbed(await ask().done);
        await whole();
      } finally {
        redis.disconnect();
      }
      for (const worker of cluster.workers) expect(worker.process.exit).toBeUndefined();
      expect(cluster.router.process.exit).toBeUndefined();
    },
    LIMIT_MS,
  );
});
