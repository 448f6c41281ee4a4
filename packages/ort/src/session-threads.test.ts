import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Runtime } from './index.ts';
import type { SessionOptions } from './session-options.ts';
import { matMulGraph, numbers } from './testing/small-graphs.ts';

let runtime: Runtime;
beforeAll(() => {
  runtime = Runtime.create({ threads: 1 });
});
afterAll(async () => {
  await runtime[Symbol.asyncDispose]();
});

const [ROWS, K, N] = [64, 256, 192];

async function product(options: SessionOptions): Promise<number[]> {
  using weights = numbers([K, N], (i) => ((i * 7919) % 101) / 101);
  await using session = await runtime.createSession(matMulGraph(K, N), {
    ...options,
    initializers: new Map([['w', weights.tensor]]),
  });
  using x = numbers([ROWS, K], (i) => ((i * 104_729) % 97) / 97);
  using y = numbers([ROWS, N]);
  using binding = session.createBinding().input('x', x.tensor).output('y', y.tensor);
  await session.run(binding);
  return [...y.values];
}

describe('threads of a session', () => {
  test.each([
    { count: 1, spinUs: 0 },
    { count: 2, spinUs: 0 },
    { count: 3, spinUs: 100 },
  ])('%j give the bits of the shared ones', async (threads) => {
    expect(await product({ threads })).toEqual(await product({}));
  });

  test.each([
    { count: 0, spinUs: 0 },
    { count: 1.5, spinUs: 0 },
    { count: 2, spinUs: -1 },
    { count: 2, spinUs: Number.NaN },
  ])('%j are refused', async (threads) => {
    await expect(product({ threads })).rejects.toThrow(/a session's threads are at least one and spin for 0 µs or more/);
  });
});

test('a profile names every operator that ran, once the session has ended', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'causeway-profile-'));
  try {
    await product({ profile: join(folder, 'here') });
    const [file = ''] = readdirSync(folder);
    expect(file).toMatch(/^here_.*\.json$/);
    const events = JSON.parse(readFileSync(join(folder, file), 'utf8')) as {
      cat: string;
      dur: number;
      args?: { op_name?: string };
    }[];
    const operators = events.filter(({ cat, args }) => cat === 'Node' && args?.op_name !== undefined);
    expect(operators.length).toBeGreaterThan(0);
    for (const { dur } of operators) expect(dur).toBeGreaterThanOrEqual(0);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
