/**
 * Shards that are slow, met by a worker's dispatch of whole layers: times beside those of an undisturbed run, in turns on the same machine.
 * Processes, signals and connections are real. Takes half a minute: CAUSEWAY_TEST_FULL=1 runs it.
 */
import { fileURLToPath } from 'node:url';
import { sleep } from '@causeway/lifecycle';
import { describe, expect, it } from 'vitest';
import { type ExpertShards, startShards } from '../bench/arms/expert-shards.ts';

const MODEL = fileURLToPath(new URL('../../models/tiny-moe', import.meta.url));
const LIMIT_MS = 240_000;
const skip = process.env['CAUSEWAY_TEST_FULL'] !== '1';

const SHARDS = 3;
const COPIES = { CAUSEWAY_EXPERT_COPIES: '2' };
const TOKENS = 64;
/** A worker asks at this pace at most: one pause in so few asks is seen by the 99th percentile. */
const PACE_MS = 10;
const PAUSE_MS = 200;
const BETWEEN_MS = 100;
const ROUNDS = 10;
const ROUND_MS = 1200;
/** What a slow shard may cost, in multiples of the undisturbed 99th percentile. */
const MOST = 2;

const never = new AbortController().signal;

/** One layer's dispatch with random rows and choices: milliseconds. */
async function ask({ shape, ask: dispatch }: ExpertShards, turn: number): Promise<number> {
  const choose = (): number[] => {
    const all = Array.from({ length: shape.experts }, (_, expert) => expert).sort(() => Math.random() - 0.5);
    return all.slice(0, shape.expertsPerToken);
  };
  return (await dispatch(shape.layers[turn % shape.layers.length] ?? 0, TOKENS, choose)).totalMs;
}

/** Enough answers that every shard's times are known. */
async function warm(at: ExpertShards): Promise<void> {
  for (let turn = 0; turn < 200; turn++) await ask(at, turn);
}

/** Asks at the pace until `until` has passed; gives each time. */
async function paced(at: ExpertShards, until: number): Promise<number[]> {
  const times: number[] = [];
  while (performance.now() < until) {
    const next = performance.now() + PACE_MS;
    times.push(await ask(at, times.length));
    await sleep(Math.max(0, next - performance.now()), never);
  }
  return times;
}

const p99 = (times: readonly number[]): number => times.toSorted((a, b) => a - b)[Math.floor(times.length * 0.99)] ?? Number.NaN;

describe.skipIf(skip)('a slow shard whose experts another has too', () => {
  it(
    'that stands still for 200 ms again and again, each in turn, leaves the 99th percentile of a layer within twice',
    async () => {
      await using at = await startShards({ model: MODEL, shards: SHARDS, env: COPIES });
      const pids = [...at.pids.values()];
      await warm(at);
      const before = { ...at.client.counters };
      const calm: number[] = [];
      const disturbed: number[] = [];
      let pauses = 0;
      /** Stops one shard after the other. */
      const pause = async (until: number): Promise<void> => {
        while (performance.now() < until) {
          const pid = pids[pauses++ % SHARDS] ?? Number.NaN;
          process.kill(pid, 'SIGSTOP');
          await sleep(PAUSE_MS, never);
          process.kill(pid, 'SIGCONT');
          await sleep(BETWEEN_MS, never);
        }
      };
      for (let round = 0; round < ROUNDS; round++) {
        calm.push(...(await paced(at, performance.now() + ROUND_MS)));
        const until = performance.now() + ROUND_MS;
        const [times] = await Promise.all([paced(at, until), pause(until)]);
        disturbed.push(...times);
      }
      const figures = { calm: p99(calm), disturbed: p99(disturbed), asks: disturbed.length, pauses };
      console.log('p99 in ms', JSON.stringify(figures));
      // The percentile sees the pauses, and they were met.
      expect(pauses / disturbed.length).toBeGreaterThan(0.01);
      const { hedgesWon, retries } = at.client.counters;
      expect(hedgesWon + retries - before.hedgesWon - before.retries).toBeGreaterThan(pauses / 2);
      expect(figures.disturbed, JSON.stringify(figures)).toBeLessThan(MOST * figures.calm);
    },
    LIMIT_MS,
  );

  it(
    'that takes 200 ms longer for every answer leaves the 99th percentile of a layer within twice',
    async () => {
      await using calmShards = await startShards({ model: MODEL, shards: SHARDS, env: COPIES });
      await using slowShards = await startShards({
        model: MODEL,
        shards: SHARDS,
        env: COPIES,
        envOf: { 'expert-2': { CAUSEWAY_EXPERT_DELAY_MS: '200' } },
      });
      await warm(calmShards);
      await warm(slowShards);
      const calm: number[] = [];
      const disturbed: number[] = [];
      for (let turn = 0; turn < 1000; turn++) {
        calm.push(await ask(calmShards, turn));
        disturbed.push(await ask(slowShards, turn));
      }
      const figures = { calm: p99(calm), disturbed: p99(disturbed) };
      console.log('p99 in ms', JSON.stringify(figures));
      expect(figures.disturbed, JSON.stringify(figures)).toBeLessThan(MOST * figures.calm);
    },
    LIMIT_MS,
  );
});
