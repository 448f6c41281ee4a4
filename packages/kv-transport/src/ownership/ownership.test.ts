/**
 * Model checker of page ownership: random orders of reserving, sending, losing, doubling, delaying, cancelling, crashing and giving to
 * another, against the real endpoints. After every step no page was written by a stale epoch, read before it was committed, leaked, or
 * freed twice.
 */
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { ClusterModel, type Tally } from './cluster-model.ts';
import { COMMANDS, commands } from './commands.ts';
import type { Mutation } from './mutations.ts';

const FULL = process.env['CAUSEWAY_TEST_FULL'] === '1';
const STEPS = FULL ? 1_000_000 : 100_000;
const LENGTH = 2_000;
const RUNS_AT_ONCE = 10;

const [seed, path] = process.env['CAUSEWAY_TEST_SEED']?.split('/') ?? [];
const again = seed === undefined || path === undefined ? {} : { seed: Number(seed), path };

beforeAll(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'performance', 'Date'] });
});
afterAll(() => {
  vi.useRealTimers();
});

/** What went wrong, and how to see it again: fast-check's own report lists two thousand commands. */
function told({ errorInstance, seed, counterexamplePath }: Awaited<ReturnType<typeof check>>): string {
  const error = errorInstance instanceof Error ? (errorInstance.stack ?? errorInstance.message) : String(errorInstance);
  return `${error}\nagain with: CAUSEWAY_TEST_SEED=${seed}/${counterexamplePath}`;
}

async function check(tally: Tally, numRuns: number, mutation?: Mutation) {
  const property = fc.asyncProperty(commands(LENGTH), async (list) => {
    const cluster = await ClusterModel.start(tally, mutation);
    await fc.asyncModelRun(() => ({ model: {}, real: cluster }), list);
    await cluster.end();
  });
  return fc.check(property, { numRuns, endOnFailure: true, ...again });
}

test('no order of events gives a page to a stale epoch, to a reader too early, to nobody or to two', {
  timeout: 1_800_000,
}, async () => {
  const tally: Tally = {};
  while ((tally['steps'] ?? 0) < STEPS) {
    const details = await check(tally, RUNS_AT_ONCE);
    expect(details.failed, told(details)).toBe(false);
  }
  process.stdout.write(
    `${Object.entries(tally)
      .map(([what, times]) => `${what} ${times}`)
      .join(' · ')}\n`,
  );
  const happened = [
    'committed',
    'failed',
    'sent',
    'reassigned',
    'forked',
    'forged',
    'staleFrames',
    'lateFrames',
    'duplicateFrames',
    'partsResent',
    'converted early',
  ];
  for (const what of [...COMMANDS, ...happened]) expect(tally[what] ?? 0, what).toBeGreaterThan(0);
});

describe('a fault put in on purpose is found', () => {
  const found: [Mutation, RegExp][] = [
    ['epochs ignored', /a stale epoch wrote/],
    ['holds ignored', /a stale epoch wrote|freed twice, or too early|freed while a fork/],
    ['holds never given back', /leaked/],
    ['pages given back twice', /freed twice, or too early/],
    ['committed before written', /before page \d+ was written|a stale epoch wrote/],
    ['committed before converted', /before page \d+ was written|a stale epoch wrote/],
  ];
  test.each(found)('%s', { timeout: 120_000 }, async (mutation, message) => {
    const details = await check({}, 300, mutation);
    expect(details.failed).toBe(true);
    expect(String((details.errorInstance as Error).message)).toMatch(message);
  });
});
