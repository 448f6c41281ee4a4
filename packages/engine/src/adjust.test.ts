/** Bias, penalties and min_p against a plain implementation of vLLM's, token by token. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LogitAdjuster } from './adjust.ts';
import { exponentials } from './exponential.ts';
import { uniform } from './philox.ts';
import { Sampler } from './sampler.ts';
import type { KnownTokens, Sampling } from './types.ts';

const SIZE = 12;
const greedy: Sampling = { temperature: 0, topP: 1, topK: 0, seed: 0n };
/** Without the least of numbers, which would give -0. */
const penalty = fc.integer({ min: -200, max: 200 }).map((value) => value / 100);
const samplings = fc.record({
  temperature: fc.constantFrom(0, 0.3, 1, 1.7),
  topP: fc.constantFrom(0.3, 0.9, 1),
  topK: fc.constantFrom(0, 1, 4),
  seed: fc.bigInt({ min: 0n, max: 99n }),
  minP: fc.constantFrom(0, 0.01, 0.3, 1),
  repetitionPenalty: fc.constantFrom(1, 1.3, 0.7, 100, 0.01),
  presencePenalty: penalty,
  frequencyPenalty: penalty,
  logitBias: fc.uniqueArray(
    fc.record({ id: fc.nat(SIZE - 1), bias: fc.integer({ min: -1000, max: 1000 }).map((value) => value / 10) }),
    {
      selector: ({ id }) => id,
      maxLength: 5,
    },
  ),
});
const rows = fc
  .array(
    fc.oneof(
      fc.integer({ min: -2000, max: 2000 }).map((value) => value / 97),
      fc.constantFrom(0, 1, Number.NEGATIVE_INFINITY),
    ),
    { minLength: SIZE, maxLength: SIZE },
  )
  .filter((row) => row.some(Number.isFinite));
const ids = fc.array(fc.nat(SIZE - 1), { maxLength: 40 });

function adjusted(row: Float32Array, s: Sampling, { ids: all, answer }: KnownTokens): Float32Array {
  const tokens = Array.from(all);
  const written = tokens.slice(answer);
  return row.map((value, id) => {
    let logit = Math.fround(value + (s.logitBias?.find((entry) => entry.id === id)?.bias ?? 0));
    const factor = s.repetitionPenalty ?? 1;
    if (tokens.includes(id)) logit = Math.fround(logit > 0 ? logit / factor : logit * factor);
    const count = written.filter((token) => token === id).length;
    return count === 0 ? logit : logit - ((s.frequencyPenalty ?? 0) * count + (s.presencePenalty ?? 0));
  });
}

function choose(row: Float32Array, s: Sampling, position: number): number {
  const byLogit = [...row.keys()].sort((a, b) => (row[b] as number) - (row[a] as number) || a - b);
  if (s.temperature === 0) return byLogit[0] as number;
  const weights = new Float64Array(row.length);
  const max = Math.max(...row);
  exponentials(row, max, s.temperature, weights);
  const weight = (id: number) => weights[id] as number;
  let kept = byLogit.filter((id) => ((row[id] as number) - max) * (1 / s.temperature) >= Math.log(s.minP ?? 0));
  if (s.topK > 0) kept = kept.slice(0, s.topK);
  const sum = (list: readonly number[]) => list.reduce((total, id) => total + weight(id), 0);
  const whole = sum(kept);
  if (s.topP < 1) {
    let mass = 0;
    const end = kept.findIndex((id) => (mass += weight(id)) >= s.topP * whole);
    kept = kept.slice(0, end < 0 ? kept.length : end + 1);
  }
  kept.sort((a, b) => a - b);
  const target = uniform(s.seed, position) * sum(kept);
  let mass = 0;
  return kept.find((id) => (mass += weight(id)) > target) ?? (kept.findLast((id) => weight(id) > 0) as number);
}

describe('bias, penalties and min_p', () => {
  it('choose as the definition does, whatever was sampled before', () => {
    const sampler = new Sampler(SIZE);
    const adjuster = new LogitAdjuster(SIZE);
    fc.assert(
      fc.property(rows, samplings, ids, fc.nat(40), fc.nat(1000), (values, sampling, tokens, start, position) => {
        const row = Float32Array.from(values, (value) => (Object.is(value, -0) ? 0 : value));
        const known = { ids: tokens, answer: Math.min(start, tokens.length) };
        const expected = adjusted(row, sampling, known);
        expect(adjuster.adjust(row, sampling, known)).toEqual(expected);
        const { id, logprob } = sampler.sample(row, sampling, position, known);
        expect(id).toBe(choose(expected, sampling, position));
        // The model's own probability, whatever was changed.
        expect(logprob).toBeCloseTo((row[id] as number) - Math.log(row.reduce((sum, logit) => sum + Math.exp(logit), 0)), 5);
      }),
      { numRuns: 3000, seed: 11 },
    );
  });

  it('are the same for prompt and answer read as one prompt, and replayed', () => {
    const row = Float32Array.of(3, 2.9, 2.8, 0);
    const sampling = { ...greedy, presencePenalty: 0.15, frequencyPenalty: 0.1 };
    const chosen = (known: KnownTokens) => new Sampler(4).sample(row, sampling, 3, known).id;
    const answers = [0, 0, 1];
    expect(chosen({ ids: [2, 2, ...answers], answer: 2 })).toBe(2);
    expect(chosen({ ids: Uint32Array.of(2, 2, ...answers), answer: 2 })).toBe(2);
    // Penalties of presence and frequency don't count the prompt.
    expect(chosen({ ids: [0, 0, 1], answer: 3 })).toBe(0);
  });

  it('leave the row alone: the next reader of the logits sees the model', () => {
    const row = Float32Array.of(1, 2, 3);
    new Sampler(3).sample(row, { ...greedy, logitBias: [{ id: 0, bias: 50 }] }, 0);
    expect(row).toEqual(Float32Array.of(1, 2, 3));
  });

  it('force and forbid a token', () => {
    const row = Float32Array.of(1, 2, 3);
    const pick = (id: number, bias: number, temperature: number) =>
      new Sampler(3).sample(row, { ...greedy, temperature, logitBias: [{ id, bias }] }, 5).id;
    expect(pick(0, 100, 1)).toBe(0);
    expect(pick(2, -100, 0)).toBe(1);
  });

  it('need under 5 ms for 152,000 logits and 32,000 tokens', () => {
    const size = 152_000;
    const logits = Float32Array.from({ length: size }, (_, i) => Math.fround(Math.sin(i * 12.9898) * 6));
    const known = { ids: Array.from({ length: 32_000 }, (_, i) => (i * 7919) % size), answer: 16_000 };
    const all = { minP: 0.01, repetitionPenalty: 1.2, presencePenalty: 0.5, frequencyPenalty: 0.1 };
    const sampling = { temperature: 0.7, topP: 0.9, topK: 50, seed: 1n, ...all };
    const sampler = new Sampler(size);
    // Relative to a loop of Math.exp, which takes 1.65 ms where nothing else runs: the machine may be busy.
    const weights = new Float64Array(size);
    const timed = (work: () => void): number => {
      const start = performance.now();
      work();
      return performance.now() - start;
    };
    let [sampled, looped] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
    const ms = () => (sampled / looped) * 1.65;
    for (let p = 0; p < 20 || (ms() >= 5 && p < 300); p++) {
      sampled = Math.min(
        sampled,
        timed(() => sampler.sample(logits, sampling, p, known)),
      );
      looped = Math.min(
        looped,
        timed(() => {
          for (let i = 0; i < size; i++) weights[i] = Math.exp(logits[i] as number);
        }),
      );
    }
    expect(ms()).toBeLessThan(5);
  });
});
