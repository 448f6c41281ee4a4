import type { KvDtype } from '@causeway/kv';
import { liveBuffers, liveTensors } from '@causeway/ort';
import { describe, expect, it, vi } from 'vitest';
import {
  absent,
  bits,
  generate,
  generation,
  goldenCases,
  type ModelName,
  never,
  numbers,
  randomIds,
  startEngine,
} from './testing/start-engine.ts';
import type { Engine, GeneratedToken } from './types.ts';

const MODELS = ['llama', 'deepseek_v3', 'tiny-moe'] as const satisfies ModelName[];
/** Token ids below it are in every vocabulary here. */
const VOCABULARY = 257;

/** A test for each model whose checkpoint is there. */
function withModels(models: readonly ModelName[], title: string, test: (name: ModelName) => Promise<void>): void {
  for (const name of models) it.skipIf(absent(name))(`${name}: ${title}`, () => test(name));
}

/** The logits of every position. */
async function allLogits(engine: Engine, ids: readonly number[], chunk?: number): Promise<Float32Array> {
  const rows: Float32Array[] = [];
  const onLogits = (_: number, logits: Float32Array) => rows.push(logits.slice());
  await engine.logits(Uint32Array.from(ids), onLogits, chunk === undefined ? {} : { chunk });
  const all = new Float32Array(rows.reduce((sum, row) => sum + row.length, 0));
  let at = 0;
  for (const row of rows) {
    all.set(row, at);
    at += row.length;
  }
  return all;
}

describe('goldens', () => {
  withModels(MODELS, 'prefill and decode give the reference tokens', async (name) => {
    await using t = await startEngine(name);
    for (const { prompt, greedy, lastLogits } of goldenCases(name).slice(0, 8)) {
      const tokens = await generate(t.engine, generation(prompt, { maxTokens: greedy.length, returnLogits: true }));
      expect(tokens.map((token) => token.id)).toEqual(greedy);
      expect(tokens.map((token) => token.position)).toEqual(greedy.map((_, i) => i));
      expect(tokens.map((token) => token.finishReason)).toEqual([...greedy.slice(1).map(() => undefined), 'length']);
      const first = tokens[0]?.logits as Float32Array;
      const error = Math.max(...(lastLogits ?? []).map((x, i) => Math.abs(x - (first[i] as number))), 0);
      expect(error).toBeLessThan(2e-3);
    }
    expect(t.errors).toEqual([]);
    expect(t.pool.freePages).toBe(t.pool.totalPages);
  });
});

describe('determinism', () => {
  const ids = randomIds(numbers(1), 300, VOCABULARY);

  withModels(MODELS, 'logits do not depend on where the prompt is cut, nor on what slots held', async (name) => {
    await using plain = await startEngine(name, { chunkTokens: 512, debug: {} });
    await using checked = await startEngine(name, { chunkTokens: 512 });
    const whole = await allLogits(plain.engine, ids);
    expect(whole.length).toBe(300 * plain.engine.info.vocabSize);
    for (const chunk of [4, 13, 64, 299, 300]) {
      const cut = await allLogits(checked.engine, ids, chunk);
      expect(Buffer.compare(Buffer.from(cut.buffer), Buffer.from(whole.buffer)), `chunks of ${chunk}`).toBe(0);
    }
  });

  withModels(MODELS, 'decode does not depend on slot capacity, block size or NaN in unused memory', async (name) => {
    const answers = new Set<string>();
    for (const options of [
      { maxContext: 512, blockTokens: 16 },
      { maxContext: 512, blockTokens: 16, debug: {} },
      { maxContext: 1500, blockTokens: 5 },
      { maxContext: 400, blockTokens: 64 },
    ]) {
      await using t = await startEngine(name, options);
      answers.add(bits(await generate(t.engine, generation(ids, { maxTokens: 40 }))));
    }
    expect(answers.size).toBe(1);
  });

  withModels(
    MODELS,
    'a batch gives every sequence the bits it has alone, whoever joins, leaves or is cancelled',
    async (name) => {
      await using t = await startEngine(name);
      const random = numbers(7);
      const requests = Array.from({ length: 16 }, (_, i) =>
        generation(randomIds(random, 1 + Math.floor(random() * 150), VOCABULARY), {
          maxTokens: 1 + Math.floor(random() * 60),
          sampling: { temperature: i % 3 === 0 ? 0 : 1.3, topP: 0.95, topK: i % 2 === 0 ? 0 : 50, seed: BigInt(i) },
          firstPosition: i * 10,
        }),
      );
      const alone: string[] = [];
      for (const request of requests) alone.push(bits(await generate(t.engine, request)));
      const before = t.engine.stats();
      const together = await Promise.all(
        requests.map(async (request, i) => {
          await new Promise((resolve) => setTimeout(resolve, Math.floor(random() * 60)));
          const controller = new AbortController();
          const answer = generate(t.engine, request, controller.signal).then(bits, (error: { code: string }) => error.code);
          if (i % 5 === 4) setTimeout(() => controller.abort(), 15 + Math.floor(random() * 30));
          return answer;
        }),
      );
      together.forEach((answer, i) => {
        if (answer !== 'cancelled') expect(answer, `request ${i}`).toBe(alone[i]);
      });
      expect(together.filter((answer) => answer === 'cancelled').length).toBeLessThanOrEqual(3);
      const after = t.engine.stats();
      // One run of the graph serves every running sequence.
      expect(after.decodeRuns - before.decodeRuns).toBeLessThan(0.7 * (after.decodedTokens - before.decodedTokens));
      expect(after.freePages).toBe(after.totalPages);
      expect(t.errors).toEqual([]);
    },
  );

  it('8 streams take fewer runs of the decode graph than tokens', async () => {
    await using t = await startEngine('tiny-moe', { maxSequences: 8 });
    const [example] = goldenCases('tiny-moe');
    const g = generation(example?.prompt as number[], { maxTokens: 24 });
    const answers = await Promise.all(Array.from({ length: 8 }, () => generate(t.engine, g)));
    expect(new Set(answers.map(bits)).size).toBe(1);
    const { decodeRuns, decodedTokens } = t.engine.stats();
    expect(decodedTokens).toBe(8 * 23);
    expect(decodeRuns).toBeLessThan(decodedTokens / 3);
  });

  it.skipIf(absent('smollm2'))('smollm2, exact: 4-bit weights give a lone sequence the bits it has in a batch', async () => {
    // Their f32 kernel rounds a single row otherwise than several; packages/models pads for that.
    await using t = await startEngine('smollm2', { maxContext: 64, pageCount: 32 });
    const prompts = [5, 1, 12].map((count) => randomIds(numbers(count), count, 49_000));
    const requests = prompts.map((prompt) => generation(prompt, { maxTokens: 6 }));
    const alone: string[] = [];
    for (const request of requests) alone.push(bits(await generate(t.engine, request)));
    const together = await Promise.all(requests.map((request) => generate(t.engine, request)));
    expect(together.map(bits)).toEqual(alone);
    expect(t.errors).toEqual([]);
  });

  withModels(MODELS, 'replayed tokens give the bits of the first time', async (name) => {
    await using t = await startEngine(name);
    const sampling = { temperature: 1.2, topP: 0.9, topK: 0, seed: 5n };
    const whole = await generate(t.engine, generation(ids, { maxTokens: 50, sampling }));
    for (const known of [1, 16, 37]) {
      const g = generation(ids, {
        maxTokens: 50 - known,
        sampling,
        firstPosition: known,
        replayIds: Uint32Array.from(whole.slice(0, known), (token) => token.id),
      });
      expect(bits(await generate(t.engine, g))).toBe(bits(whole.slice(known)));
    }
  });
});

/** Prefills in one engine, decodes in the other from a copy of the pages' bytes. */
async function handOver(from: Engine, to: Engine, ids: readonly number[], withFirst: boolean): Promise<GeneratedToken[]> {
  const g = generation(ids, { maxTokens: 40, sampling: { temperature: 0.9, topP: 1, topK: 40, seed: 11n } });
  using source = await from.reserve(ids.length, never);
  const { first } = await from.prefill(g, source, never);
  const target = await to.reserve(ids.length, never);
  target.startFilling();
  source.pages.forEach((page, i) => to.page(target.pages[i] as number).set(from.page(page)));
  target.commit();
  const tokens = withFirst ? [first as GeneratedToken] : [];
  for await (const token of to.decode(g, target, withFirst ? first : undefined, never)) tokens.push(token);
  return tokens;
}

describe('pages', () => {
  const ids = randomIds(numbers(3), 211, VOCABULARY);

  const stored = [
    ['llama', 'f32'],
    ['deepseek_v3', 'f32'],
    ['tiny-moe', 'f32'],
    ['llama', 'bf16'],
    ['deepseek_v3', 'f16'],
    ['tiny-moe', 'bf16'],
  ] as const;
  for (const [name, dtype] of stored) {
    const title = `${name}, ${dtype}: what another engine decodes from their bytes alone equals decoding at home`;
    it.skipIf(absent(name))(title, () => decodesElsewhere(name, dtype));
  }

  async function decodesElsewhere(name: ModelName, dtype: KvDtype): Promise<void> {
    await using a = await startEngine(name, { dtype });
    await using b = await startEngine(name, { dtype, pageCount: 64, maxSequences: 2 });
    const home = await handOver(a.engine, a.engine, ids, true);
    expect(home.length).toBe(40);
    expect(bits(await handOver(a.engine, b.engine, ids, true))).toBe(bits(home));
    expect(b.engine.stats().prefillTokens).toBe(0);
    expect([...a.errors, ...b.errors]).toEqual([]);
  }

  for (const dtype of ['f32', 'bf16'] as const) {
    const title = `without a first token the last prompt position is computed again (${dtype})`;
    withModels(['llama', 'tiny-moe'], title, (name) => recomputes(name, dtype));
  }

  async function recomputes(name: ModelName, dtype: KvDtype): Promise<void> {
    await using t = await startEngine(name, { dtype });
    for (const length of [1, 2, 16, 17, 211]) {
      const prompt = ids.slice(0, length);
      const [with_, without] = [
        await handOver(t.engine, t.engine, prompt, true),
        await handOver(t.engine, t.engine, prompt, false),
      ];
      expect(without.map((token) => token.id)).toEqual(with_.map((token) => token.id));
      // All but the recomputed one see the same pages: equal bits.
      expect(bits(without.slice(1))).toBe(bits(with_.slice(1)));
    }
    expect(t.errors).toEqual([]);
  }

  const rounding = '16-bit pages round: answers differ from f32 pages, and batches still do not matter';
  withModels(['llama', 'tiny-moe'], rounding, async (name) => {
    await using exact = await startEngine(name);
    await using rounded = await startEngine(name, { dtype: 'bf16' });
    const g = generation(ids, { maxTokens: 30 });
    const alone = bits(await generate(rounded.engine, g));
    expect(alone).not.toBe(bits(await generate(exact.engine, g)));
    const others = [3, 90, 18].map((n) => generate(rounded.engine, generation(ids.slice(0, n), { maxTokens: 25 })));
    expect(bits(await generate(rounded.engine, g))).toBe(alone);
    await Promise.all(others);
    expect(rounded.errors).toEqual([]);
  });
});

describe('memory', () => {
  const prompts = Array.from({ length: 6 }, (_, i) => randomIds(numbers(20 + i), 20 + i * 13, VOCABULARY));
  const requests = prompts.map((prompt, i) => generation(prompt, { maxTokens: 50 + i * 8 }));

  it.each([
    { exactResume: true, how: 'replay' },
    { exactResume: false, how: 'prefill' },
  ])('a tiny pool preempts and completes everything with the same tokens ($how)', async ({ exactResume }) => {
    await using roomy = await startEngine('tiny-moe');
    await using tight = await startEngine('tiny-moe', { pageCount: 18, initialGrowth: 4 });
    const expected = await Promise.all(requests.map((g) => generate(roomy.engine, g)));
    const answers = await Promise.all(requests.map((g) => generate(tight.engine, { ...g, exactResume })));
    expect(roomy.engine.stats().preemptions).toBe(0);
    expect(tight.engine.stats().preemptions).toBeGreaterThan(0);
    expect(answers.map((tokens) => tokens.map((token) => token.id))).toEqual(
      expected.map((tokens) => tokens.map((token) => token.id)),
    );
    if (exactResume) expect(answers.map(bits)).toEqual(expected.map(bits));
    expect(tight.pool.freePages).toBe(18);
    expect(tight.errors).toEqual([]);
  });

  it('pages come back after cancels at any moment', async () => {
    await using t = await startEngine('tiny-moe', { pageCount: 40, initialGrowth: 8 });
    const random = numbers(99);
    const outcomes = await Promise.all(
      Array.from({ length: 40 }, async (_, i) => {
        await new Promise((resolve) => setTimeout(resolve, random() * 150));
        const controller = new AbortController();
        setTimeout(() => controller.abort(), random() * 60);
        return generate(t.engine, requests[i % requests.length] as (typeof requests)[number], controller.signal).then(
          () => 'done',
          (error: { code: string }) => error.code,
        );
      }),
    );
    expect(outcomes.filter((outcome) => outcome === 'cancelled').length).toBeGreaterThan(10);
    expect(outcomes.every((outcome) => outcome === 'cancelled' || outcome === 'done')).toBe(true);
    // A packing run that was under way when the last one was cancelled holds its pages until it ends.
    await vi.waitFor(() => expect(t.pool.freePages).toBe(40));
    expect(t.errors).toEqual([]);
    // And the engine still works.
    expect((await generate(t.engine, requests[0] as (typeof requests)[number])).length).toBe(50);
  });

  it('disposing in the middle ends everybody and frees all native memory', async () => {
    const before = [liveBuffers(), liveTensors()];
    const t = await startEngine('tiny-moe', { pageCount: 20 });
    const outcomes = requests.map((g) => generate(t.engine, g).catch((error: { reason: string }) => error.reason));
    await new Promise((resolve) => setTimeout(resolve, 30));
    await t[Symbol.asyncDispose]();
    expect(new Set(await Promise.all(outcomes)).has('draining')).toBe(true);
    expect([liveBuffers(), liveTensors()]).toEqual(before);
    await expect(generate(t.engine, requests[0] as (typeof requests)[number])).rejects.toThrow();
  });
});
