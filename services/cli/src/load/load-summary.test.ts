import { describe, expect, it } from 'vitest';
import { distribution, quantile, summarize, timePerOutputToken } from './load-summary.ts';
import type { RequestRecord } from './timed-request.ts';

function record(sentMs: number, chunkMs: number[], more: Partial<RequestRecord> = {}): RequestRecord {
  return {
    sentMs,
    lateMs: 0,
    chunkMs,
    endMs: chunkMs.at(-1) ?? 0,
    promptTokens: 10,
    completionTokens: chunkMs.length,
    outcome: { kind: 'completed' },
    ...more,
  };
}

describe('quantile', () => {
  it('interpolates as numpy.percentile does', () => {
    // numpy.percentile([1, 2, 3, 4], [0, 25, 50, 90, 100]) = [1, 1.75, 2.5, 3.7, 4]
    const wanted = [1, 1.75, 2.5, 3.7, 4];
    [0, 0.25, 0.5, 0.9, 1].forEach((q, i) => expect(quantile([1, 2, 3, 4], q)).toBeCloseTo(wanted[i] as number, 12));
    expect(quantile([7], 0.99)).toBe(7);
  });

  it('sorts numbers by value, not by their text', () => {
    expect(distribution([10, 9, 100])).toMatchObject({ p50: 10, max: 100, count: 3 });
    expect(distribution([])).toBeUndefined();
  });
});

describe('summarize', () => {
  const records = [
    // TTFT 100, gaps 20 and 40, TPOT 30, E2E 170.
    record(0, [100, 120, 160], { endMs: 170 }),
    // Two tokens in the second piece: TPOT (240 - 200) / 2 = 20.
    record(500, [200, 240], { completionTokens: 3, endMs: 240 }),
    record(900, [50], { outcome: { kind: 'failed', error: 'HTTP 503: busy' }, endMs: 100 }),
    record(1000, [10], { outcome: { kind: 'unfinished' }, endMs: 1000 }),
  ];

  it('takes every figure from completed requests and the time from all', () => {
    const summary = summarize(records, undefined);
    expect(summary.requests).toEqual({ sent: 4, completed: 2, failed: 1, unfinished: 1 });
    expect(summary.errors).toEqual([{ error: 'HTTP 503: busy', count: 1 }]);
    expect(summary.seconds).toBe(2);
    expect(summary.requestsPerSecond).toBe(1);
    expect(summary).toMatchObject({ promptTokens: 20, outputTokens: 6, outputTokensPerSecond: 3, tokensEstimated: false });
    expect(summary.ttftMs).toMatchObject({ count: 2, mean: 150, p50: 150, max: 200 });
    expect(summary.itlMs).toMatchObject({ count: 3, p50: 40, max: 40 });
    expect(summary.tpotMs).toMatchObject({ count: 2, mean: 25 });
    expect(summary.e2eMs).toMatchObject({ mean: 205, max: 240 });
    expect(summary.goodput).toBeUndefined();
  });

  it('counts as good what keeps every limit that is given', () => {
    const good = (slo: object): number | undefined => summarize(records, slo).goodput?.good;
    expect(good({ ttft: 200 })).toBe(2);
    expect(good({ ttft: 199 })).toBe(1);
    expect(good({ ttft: 100, tpot: 30, e2e: 170 })).toBe(1);
    expect(good({ tpot: 19 })).toBe(0);
    expect(summarize(records, { ttft: 100 }).goodput?.requestsPerSecond).toBe(0.5);
  });

  it('has no time per token for an answer of one token, which no limit on it fails', () => {
    const one = record(0, [30], { completionTokens: 1 });
    expect(timePerOutputToken(one)).toBeUndefined();
    expect(summarize([one], { tpot: 1 }).goodput?.good).toBe(1);
  });

  it('says when tokens are counted by pieces of text', () => {
    expect(summarize([record(0, [1, 2], { completionTokens: undefined })], undefined)).toMatchObject({
      outputTokens: 2,
      tokensEstimated: true,
    });
  });

  it('has nothing to divide by in a run without requests', () => {
    expect(summarize([], { ttft: 1 })).toMatchObject({
      seconds: 0,
      requestsPerSecond: 0,
      goodput: { good: 0, requestsPerSecond: 0 },
    });
  });
});
