import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { promptText, traceLoad, uniform, uniformLoad } from './load-plan.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'causeway-trace-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

function trace(...lines: unknown[]): string {
  const path = join(folder, 'trace.jsonl');
  writeFileSync(path, lines.map((line) => (typeof line === 'string' ? line : JSON.stringify(line))).join('\n'));
  return path;
}
const ALL = { requests: undefined, speed: 1, maxPromptTokens: 10_000, maxOutputTokens: 1000 };

describe('Poisson arrivals', () => {
  const plan = uniformLoad({ requests: 20_000, promptTokens: 8, outputTokens: 4, seed: 5 }, 50);
  const gaps = plan.slice(1).map(({ atMs = 0 }, i) => atMs - (plan[i]?.atMs ?? 0));

  it('come at the wanted rate, with the spread of an exponential', () => {
    const mean = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
    const deviation = Math.sqrt(gaps.reduce((sum, gap) => sum + (gap - mean) ** 2, 0) / gaps.length);
    // 20,000 gaps of mean 20 ms: the mean's own deviation is 0.14 ms.
    expect(mean).toBeGreaterThan(19.3);
    expect(mean).toBeLessThan(20.7);
    expect(deviation / mean).toBeGreaterThan(0.95);
    expect(deviation / mean).toBeLessThan(1.05);
    // P(gap > mean) = 1/e.
    expect(gaps.filter((gap) => gap > mean).length / gaps.length).toBeCloseTo(Math.exp(-1), 1);
  });

  it('are the same for the same seed and others for another', () => {
    const of = (seed: number) => uniformLoad({ requests: 50, promptTokens: 8, outputTokens: 4, seed }, 50);
    expect(of(1)).toEqual(of(1));
    expect(of(2).map(({ atMs }) => atMs)).not.toEqual(of(1).map(({ atMs }) => atMs));
  });

  it('are left out where requests only follow one another', () => {
    expect(uniformLoad({ requests: 2, promptTokens: 8, outputTokens: 4, seed: 0 }, undefined).map(({ atMs }) => atMs)).toEqual([
      undefined,
      undefined,
    ]);
  });

  it('uniform numbers are never 0 or 1, whose logarithm would be no time', () => {
    const random = uniform(3);
    for (let i = 0; i < 100_000; i++) {
      const value = random();
      expect(value > 0 && value < 1).toBe(true);
    }
  });
});

describe('a trace', () => {
  it('gives times from its first request on, faster as asked, and cuts what is too long', () => {
    const path = trace(
      { timestamp: 1000, input_length: 1100, output_length: 7, hash_ids: [0, 1, 2] },
      { timestamp: 3000, input_length: 600, output_length: 900, hash_ids: [0, 9] },
    );
    const plan = traceLoad(path, { ...ALL, speed: 2, maxPromptTokens: 1000, maxOutputTokens: 100 });
    expect(plan.map(({ atMs, outputTokens }) => [atMs, outputTokens])).toEqual([
      [0, 7],
      [1000, 100],
    ]);
    expect(plan[0]?.blocks).toEqual([
      { id: 0, tokens: 512 },
      { id: 1, tokens: 488 },
    ]);
    expect(traceLoad(path, { ...ALL, requests: 1 })).toHaveLength(1);
  });

  it('shares text where blocks have the same id, and only there', () => {
    const plan = traceLoad(
      trace(
        { timestamp: 0, input_length: 600, output_length: 1, hash_ids: [4, 5] },
        { timestamp: 0, input_length: 600, output_length: 1, hash_ids: [4, 6] },
      ),
      ALL,
    );
    const [first = '', second = ''] = plan.map(({ blocks }) => promptText(blocks));
    const words = (text: string) => text.split(' ');
    expect(words(first)).toHaveLength(600);
    expect(words(first).slice(0, 512)).toEqual(words(second).slice(0, 512));
    expect(words(first).slice(512)).not.toEqual(words(second).slice(512));
  });

  it('has a block of its own for a prompt whose ids do not reach', () => {
    const plan = traceLoad(
      trace(
        { timestamp: 0, input_length: 700, output_length: 1, hash_ids: [4] },
        { timestamp: 0, input_length: 5, output_length: 1 },
      ),
      ALL,
    );
    expect(plan.map(({ blocks }) => blocks.map(({ tokens }) => tokens))).toEqual([[512, 188], [5]]);
  });

  it.each([
    ['{"timestamp": 0', /line 1: not JSON/],
    [{ timestamp: -1, input_length: 1, output_length: 1 }, /line 1: .*timestamp/s],
    [{ timestamp: 0, input_length: 1e300, output_length: 1 }, /line 1: .*input_length/s],
    [{ timestamp: 0, input_length: 3 }, /line 1: .*output_length/s],
    ['', /has no request/],
  ])('is refused with the line and the reason: %j', (line, message) => {
    expect(() => traceLoad(trace(line), ALL)).toThrow(message);
  });

  it('is refused when times run backwards, or when it is not there', () => {
    const line = (timestamp: number) => ({ timestamp, input_length: 1, output_length: 1 });
    expect(() => traceLoad(trace(line(5), line(4)), ALL)).toThrow(/line 2: its timestamp 4 is before/);
    expect(() => traceLoad(join(folder, 'absent'), ALL)).toThrow(/cannot be read/);
  });
});
