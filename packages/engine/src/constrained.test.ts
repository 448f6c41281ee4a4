import type { ConstrainedText, Constraint, TokenMask } from '@causeway/grammar';
import { describe, expect, it } from 'vitest';
import { Sampler } from './sampler.ts';
import { bits, generate, generation, goldenCases, never, startEngine } from './testing/start-engine.ts';
import type { GeneratedToken, Sampling } from './types.ts';

const OBJECT: Constraint = { kind: 'json_object' };
const END = 2;

function maskOf(vocabSize: number, ids: readonly number[]): TokenMask {
  const mask = new Uint32Array(Math.ceil(vocabSize / 32));
  for (const id of ids) mask[id >>> 5]! |= 1 << (id & 31);
  return mask;
}

const VOCABULARY = 2048;
const prompt = goldenCases('tiny-moe')[0]?.prompt ?? [];

/** Masks that allow one of two tokens at each place, after a while. */
class Script {
  readonly asked: { tokens: number[]; endTokens: readonly number[] }[] = [];
  /** Texts that are open. */
  live = 0;
  readonly #delayMs: (position: number) => number;

  constructor(delayMs: (position: number) => number) {
    this.#delayMs = delayMs;
  }

  static allowed(position: number): number[] {
    return position >= 12 ? [END] : [100 + position, 200 + position];
  }

  open(_: Constraint, endTokens: readonly number[], tokens: readonly number[]): ConstrainedText {
    this.asked.push({ tokens: [...tokens], endTokens });
    this.live++;
    let position = tokens.length;
    const next = async (): Promise<TokenMask> => {
      const at = position;
      await new Promise((resolve) => setTimeout(resolve, this.#delayMs(at)));
      return maskOf(VOCABULARY, Script.allowed(at));
    };
    let mask = next();
    return {
      mask: () => mask,
      accept: () => {
        position++;
        mask = next();
      },
      [Symbol.dispose]: () => {
        this.live--;
      },
    };
  }
}

function held(tokens: readonly GeneratedToken[], from = 0): void {
  expect(tokens.at(-1)).toMatchObject({ id: END, finishReason: 'stop', position: 12 });
  for (const token of tokens) expect(Script.allowed(token.position)).toContain(token.id);
  expect(tokens[0]?.position).toBe(from);
}

describe('sequences that are held to a format', () => {
  it.each(['f32', 'f16'] as const)(
    'keep nobody waiting for their masks, and have the same tokens however late these are (%s pages)',
    async (dtype) => {
      const wanted = generation(prompt, { constraint: OBJECT, ignoreEos: false, maxTokens: 40 });
      const free = generation(prompt, { maxTokens: 60 });
      const at = async (delayMs: (position: number) => number): Promise<{ tokens: string[]; runs: number }> => {
        const constraints = new Script(delayMs);
        await using test = await startEngine('tiny-moe', { dtype, constraints });
        const [constrained, other] = await Promise.all([generate(test.engine, wanted), generate(test.engine, free)]);
        held(constrained);
        expect(test.errors).toEqual([]);
        expect(constraints.live).toBe(0);
        expect(constraints.asked.map(({ tokens }) => tokens)).toEqual([[], [constrained[0]?.id]]);
        return { tokens: [bits(constrained), bits(other)], runs: test.engine.stats().decodeRuns };
      };
      const soon = await at(() => 0);
      // Some masks take longer than a step waits: the same token is fed again meanwhile.
      const late = await at((position) => (position % 3 === 2 ? 70 : 0));
      expect(late.tokens).toEqual(soon.tokens);
      // The free sequence takes its 59 steps however late the other one is.
      expect([soon.runs, late.runs]).toEqual([59, 59]);
      await using plain = await startEngine('tiny-moe', { dtype });
      expect(bits(await generate(plain.engine, free))).toBe(soon.tokens[1]);
    },
  );

  it('go on where another worker was, the last position recomputed', async () => {
    const constraints = new Script((position) => (position === 5 ? 60 : 0));
    await using test = await startEngine('tiny-moe', { constraints });
    const { engine } = test;
    const whole = await generate(engine, generation(prompt, { constraint: OBJECT, ignoreEos: false, maxTokens: 40 }));
    const given = whole.slice(0, 5).map(({ id }) => id);
    const rest = generation([...prompt, ...given], { constraint: OBJECT, ignoreEos: false, maxTokens: 40, firstPosition: 5 });
    using pages = await engine.reserve(engine.room(rest), never);
    await engine.prefill(rest, pages, never);
    const other = generate(engine, generation(prompt, { maxTokens: 30 }));
    const tokens: GeneratedToken[] = [];
    // Without a first token: the decode worker lost the prefill worker's word.
    for await (const token of engine.decode(rest, pages, undefined, never)) tokens.push(token);
    await other;
    held(tokens, 5);
    expect(constraints.asked.at(-1)).toEqual({ tokens: given, endTokens: [END] });
    expect(tokens.map(({ id }) => id)).toEqual(whole.slice(5).map(({ id }) => id));
  });

  it('are refused where nothing can hold them', async () => {
    await using test = await startEngine('tiny-moe');
    await expect(generate(test.engine, generation(prompt, { constraint: OBJECT, ignoreEos: false }))).rejects.toMatchObject({
      code: 'failed_precondition',
      reason: 'unsupported_format',
    });
  });

  it('end with a mask that fails, and give their pages back', async () => {
    const constraints = {
      open: (): ConstrainedText => ({
        mask: () => Promise.reject(new Error('no mask')),
        accept: () => undefined,
        [Symbol.dispose]: () => undefined,
      }),
    };
    await using test = await startEngine('tiny-moe', { constraints });
    const wanted = generation(prompt, { constraint: OBJECT, ignoreEos: false });
    await expect(generate(test.engine, wanted)).rejects.toMatchObject({ reason: 'internal' });
    expect((await generate(test.engine, generation(prompt))).length).toBe(16);
    await expect.poll(() => test.pool.freePages).toBe(test.pool.totalPages);
  });
});

describe('a sampler with a mask', () => {
  const logits = Float32Array.from({ length: 70 }, (_, id) => Math.sin(id) * 5);
  const sampling: Sampling = { temperature: 1, topP: 1, topK: 0, seed: 1n };

  it.each<Partial<Sampling>>([
    {},
    { temperature: 0 },
    { topK: 5 },
    { topP: 0.3, minP: 0.2 },
    { repetitionPenalty: 5, presencePenalty: 2, logitBias: [{ id: 3, bias: 100 }] },
  ])('never draws what is not allowed, with %j', (more) => {
    const sampler = new Sampler(70);
    const allowed = [0, 31, 32, 69];
    const mask = maskOf(70, allowed);
    const drawn = new Set<number>();
    for (let position = 0; position < 200; position++) {
      drawn.add(sampler.sample(logits, { ...sampling, ...more }, position, { ids: [0, 3, 5], answer: 1 }, { mask }).id);
    }
    expect([...drawn].filter((id) => !allowed.includes(id))).toEqual([]);
  });

  it("gives the model's own log-probability", () => {
    const sampler = new Sampler(70);
    const { id, logprob } = sampler.sample(logits, { ...sampling, temperature: 0 }, 0, undefined, { mask: maskOf(70, [11]) });
    const total = logits.reduce((sum, value) => sum + Math.exp(value), 0);
    expect(id).toBe(11);
    expect(logprob).toBeCloseTo((logits[11] ?? 0) - Math.log(total), 6);
  });

  it('says so when the model excludes all that is allowed', () => {
    const row = Float32Array.from(logits, (value, id) => (id === 11 ? Number.NEGATIVE_INFINITY : value));
    expect(() => new Sampler(70).sample(row, sampling, 4, undefined, { mask: maskOf(70, [11]) })).toThrow(
      /no finite logit to any token that is allowed/,
    );
  });
});
