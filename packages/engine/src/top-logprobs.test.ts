import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Sampler } from './sampler.ts';
import { topLogprobs } from './top-logprobs.ts';

const greedy = { temperature: 0, topP: 1, topK: 0, seed: 0n };

describe('topLogprobs', () => {
  it('are the first of all tokens sorted by logit, then id', () => {
    const value = fc.oneof(fc.integer({ min: -3, max: 3 }), fc.constant(Number.NEGATIVE_INFINITY));
    fc.assert(
      fc.property(
        fc.array(value, { minLength: 1, maxLength: 40 }).filter((row) => row.some(Number.isFinite)),
        fc.integer({ min: 1, max: 20 }),
        (values, count) => {
          const row = Float32Array.from(values);
          const sampled = new Sampler(row.length).sample(row, greedy, 0);
          const sum = row.reduce((total, logit) => total + Math.exp(logit), 0);
          const sorted = [...row.entries()]
            .sort(([a, x], [b, y]) => y - x || a - b)
            .filter(([, logit]) => Number.isFinite(logit));
          const top = topLogprobs(row, count, sampled);
          expect(top.map(({ id }) => id)).toEqual(sorted.slice(0, count).map(([id]) => id));
          for (const { id, logprob } of top) expect(logprob).toBeCloseTo((row[id] as number) - Math.log(sum), 9);
          expect(top[0]).toEqual(sampled);
        },
      ),
    );
  });
});
