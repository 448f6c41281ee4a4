/**
 * A cancelled call stops its work and gives its pages back, in whichever phase it is. Seen by events and counters: what comes
 * after is compared with what a later, undisturbed request accounts for.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ServiceError } from '@causeway/errors';
import { type AttemptGeneration, type AttemptOptions, eventually, type Metrics, scrape } from '@causeway/testkit';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { type FrameTap, tapFrames } from './frame-tap.ts';
import { freePages, heldAt, idle, release, startTestCluster, type TestCluster, TINY_MOE } from './harness.ts';

const WITNESS = { promptIds: [1, 5, 9, 13, 17, 21, 25, 29], maxTokens: 6, ignoreEos: true };
const LONG_PROMPT = Array.from({ length: 1900 }, (_, i) => 3 + (i % 2000));
const PREFILLED = 'causeway_prefill_tokens_total';
const GENERATED = 'vllm:generation_tokens_total';
const RUNS = 'causeway_decode_runs_total';

type Event = Parameters<NonNullable<AttemptOptions['onEvent']>>[0];

let folder: string;
let cluster: TestCluster;
let tap: FrameTap;
let free: Record<string, number>;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'causeway-cancel-'));
  cluster = await startTestCluster({
    model: TINY_MOE,
    prefill: 3,
    nats: { maxPayload: 65_536 },
    env: {
      // Many short chunks: a prompt takes long enough to be cancelled in the middle.
      'prefill-2': { CAUSEWAY_CHUNK_TOKENS: '4' },
      'prefill-3': { CAUSEWAY_FAILPOINTS: 'after_frame_k:3=pause', CAUSEWAY_FAILPOINT_DIR: folder },
    },
  });
  tap = await tapFrames(cluster.nats.url);
});
afterAll(async () => {
  await tap?.[Symbol.asyncDispose]();
  await cluster?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

beforeEach(async () => {
  free = {};
  for (const id of ['prefill-1', 'prefill-2', 'prefill-3', 'decode-1']) {
    await idle(cluster.worker(id));
    free[id] = await freePages(cluster.worker(id));
  }
});
afterEach(async () => {
  for (const [id, pages] of Object.entries(free)) {
    await idle(cluster.worker(id));
    expect(await freePages(cluster.worker(id)), `free pages of ${id}`).toBe(pages);
  }
});

interface Cancelled {
  /** Events until the cancellation, and those after it. */
  before: Event[];
  after: Event[];
}

/** Starts an attempt, cancels it when `when` says so, and checks that it failed as cancelled. */
async function cancelled(
  generation: AttemptGeneration,
  prefill: string,
  when: (event: (accept: (event: Event) => boolean) => Promise<void>) => Promise<void>,
): Promise<Cancelled> {
  const events: Cancelled = { before: [], after: [] };
  const caller = new AbortController();
  const waiting: { accept: (event: Event) => boolean; resolve: () => void }[] = [];
  const running = cluster.attempt(generation, {
    prefill,
    signal: caller.signal,
    onEvent: (event) => {
      (caller.signal.aborted ? events.after : events.before).push(event);
      for (const { accept, resolve } of waiting) if (accept(event)) resolve();
    },
  });
  const outcome = running.then(
    () => new Error('the attempt ended before it was cancelled'),
    (error: unknown) => error,
  );
  const event = (accept: (event: Event) => boolean): Promise<void> => new Promise((resolve) => waiting.push({ accept, resolve }));
  await Promise.race([when(event), outcome]);
  caller.abort();
  const error = await outcome;
  expect(error).toBeInstanceOf(ServiceError);
  expect(error).toMatchObject({ code: 'cancelled', reason: 'cancelled' });
  return events;
}

/** Both workers of a pair when nothing runs there. */
async function atRest(prefill: string): Promise<{ prefill: Metrics; decode: Metrics; frames: number }> {
  await idle(cluster.worker(prefill));
  await idle(cluster.worker('decode-1'));
  await tap.flush();
  return {
    prefill: await scrape(cluster.worker(prefill)),
    decode: await scrape(cluster.worker('decode-1')),
    frames: tap.frames.length,
  };
}

/** Runs an undisturbed request over the pair: every frame, token and run since `rest` must be its own. */
async function nothingElseHappens(prefill: string, rest: Awaited<ReturnType<typeof atRest>>): Promise<void> {
  const witness = await cluster.attempt(WITNESS, { prefill });
  expect(witness.tokens).toHaveLength(WITNESS.maxTokens);
  const now = await atRest(prefill);
  expect(now.prefill(PREFILLED) - rest.prefill(PREFILLED)).toBe(WITNESS.promptIds.length);
  expect(now.decode(GENERATED) - rest.decode(GENERATED)).toBe(WITNESS.maxTokens - 1);
  expect(now.decode(RUNS) - rest.decode(RUNS)).toBe(WITNESS.maxTokens - 1);
  const frames = tap.frames.slice(rest.frames);
  expect(frames).toHaveLength(witness.sent!.stats!.frames);
  expect(new Set(frames.map((frame) => frame.transfer)).size).toBe(1);
}

/** What the worker did between the cancellation's arrival and its last word on the request. */
async function meanwhile(id: string, since: number): Promise<{ seconds: number; prefillTokens: number; decodeRuns: number }> {
  const { process } = cluster.worker(id);
  const log = await eventually(
    () =>
      process
        .logs()
        .slice(since)
        .find((line) => line['msg'] === 'cancelled'),
    { what: `${id} cancelled` },
  );
  return log as unknown as { seconds: number; prefillTokens: number; decodeRuns: number };
}

async function reportCancel(phase: string, ...ids: string[]): Promise<void> {
  for (const id of ids) {
    const metric = await scrape(cluster.worker(id));
    const [sum, count] = [metric('causeway_cancel_seconds_sum'), metric('causeway_cancel_seconds_count')];
    expect(count).toBeGreaterThan(0);
    console.log(
      `${phase}: ${id} needed ${((sum / count) * 1000).toFixed(1)} ms on average from cancel to last work (${count} so far)`,
    );
  }
}

it('cancelled while the prompt is read: no later chunk, frame or token', async () => {
  const worker = cluster.worker('prefill-2');
  const start = (await scrape(worker))(PREFILLED);
  const logged = worker.process.logs().length;
  const events = await cancelled({ promptIds: LONG_PROMPT, maxTokens: 100, ignoreEos: true }, 'prefill-2', async () => {
    await eventually(async () => (await scrape(worker))(PREFILLED) > start, { timeoutMs: 60_000, intervalMs: 2 });
  });
  expect(events.after).toEqual([]);
  expect(events.before.map(({ event }) => event?.$case)).not.toContain('firstToken');
  const rest = await atRest('prefill-2');
  const read = rest.prefill(PREFILLED) - start;
  expect(read).toBeGreaterThan(0);
  expect(read).toBeLessThan(LONG_PROMPT.length);
  // The chunk that was under way is terminated, or had just ended.
  expect((await meanwhile('prefill-2', logged)).prefillTokens).toBeLessThanOrEqual(4);
  await nothingElseHappens('prefill-2', rest);
  await reportCancel(`cancelled after ${read} of ${LONG_PROMPT.length} prompt tokens`, 'prefill-2', 'decode-1');
});

it('cancelled while the KV travels: no later frame, nothing decoded', async () => {
  const worker = cluster.worker('prefill-3');
  const logged = cluster.worker('decode-1').process.logs().length;
  const before = { frames: tap.frames.length, decode: await scrape(cluster.worker('decode-1')) };
  const events = await cancelled({ promptIds: LONG_PROMPT, maxTokens: 100, ignoreEos: true }, 'prefill-3', () =>
    heldAt(folder, 'after_frame_k', worker),
  );
  expect(events.after).toEqual([]);
  expect(events.before.map(({ event }) => event?.$case)).not.toContain('kvReady');
  // The receiver has everything back while the sender is still held between two frames.
  await idle(cluster.worker('decode-1'));
  await worker.process.waitForLog((line) => line.msg === 'cancelled');
  await release(folder, 'after_frame_k');
  const rest = await atRest('prefill-3');
  expect(rest.frames - before.frames).toBe(3);
  expect(rest.decode(RUNS)).toBe(before.decode(RUNS));
  expect(await meanwhile('decode-1', logged)).toMatchObject({ prefillTokens: 0, decodeRuns: 0 });
  await nothingElseHappens('prefill-3', rest);
  await reportCancel('cancelled after 3 frames', 'prefill-3', 'decode-1');
});

it('cancelled while the answer is written: no later token', async () => {
  const before = await scrape(cluster.worker('decode-1'));
  const logged = cluster.worker('decode-1').process.logs().length;
  const generation = { promptIds: WITNESS.promptIds, maxTokens: 1500, ignoreEos: true };
  const events = await cancelled(generation, 'prefill-1', (event) =>
    event(({ event: happened }) => happened?.$case === 'token' && happened.value.position === 5),
  );
  expect(events.after).toEqual([]);
  const rest = await atRest('prefill-1');
  const written = rest.decode(GENERATED) - before(GENERATED);
  expect(written).toBeGreaterThanOrEqual(5);
  expect(written).toBeLessThan(generation.maxTokens - 1);
  // The step that was under way, no other.
  expect((await meanwhile('decode-1', logged)).decodeRuns).toBeLessThanOrEqual(1);
  await nothingElseHappens('prefill-1', rest);
  await reportCancel(`cancelled at token 5, ${written} decoded`, 'decode-1');
});
