/** Answers of real models that are held to formats, in an engine alone. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Generation } from '@causeway/engine';
import { type Constraint, jsonSchemaConstraint } from '@causeway/grammar';
import { loadTokenizer, openCheckpoint, type Tokenizer, type TokenizerSource } from '@causeway/model-files';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { loadEngine, type LoadedEngine } from './load-engine.ts';

vi.setConfig({ testTimeout: 240_000, hookTimeout: 240_000 });

const MODELS = {
  'tiny-moe': fileURLToPath(new URL('../../../models/tiny-moe', import.meta.url)),
  SmolLM2: fileURLToPath(new URL('../../../../shared/models/smollm2-135m-instruct', import.meta.url)),
};

const PERSON = {
  type: 'object',
  properties: {
    name: { type: 'string', minLength: 1, maxLength: 12 },
    age: { type: 'integer', minimum: 0, maximum: 120 },
    mood: { enum: ['calm', 'cheerful', 'cross'] },
    tags: { type: 'array', items: { type: 'string', pattern: '^[a-z]{1,8}$' }, maxItems: 3 },
    friend: { anyOf: [{ $ref: '#' }, { type: 'null' }] },
  },
  required: ['name', 'age', 'mood', 'tags'],
  additionalProperties: false,
};
const validPerson = new Ajv2020().compile(PERSON);
const FORMAT = jsonSchemaConstraint(PERSON);

const { signal } = new AbortController();

describe.each(Object.entries(MODELS))('%s held to a format', (name, modelPath) => {
  /** SmolLM2 takes thirty times as long for a token. */
  const seeds = name === 'tiny-moe' ? 24 : 6;

  let loaded: LoadedEngine;
  let tokenizer: Tokenizer;
  let promptIds: Uint32Array;

  beforeAll(async () => {
    if (!existsSync(modelPath)) return;
    using checkpoint = await openCheckpoint(modelPath);
    tokenizer = loadTokenizer(checkpoint.tokenizerSource as TokenizerSource);
    const content = 'Write JSON: Tom is 7 years old and lives in Rome.';
    promptIds = Uint32Array.from(tokenizer.encodeChat([{ role: 'user', content }]));
    loaded = await loadEngine({
      modelPath,
      chip: 'cpu',
      threads: 2,
      precision: 'fast',
      kvBudgetBytes: 512 << 20,
      maxContext: 1024,
      maxSequences: 8,
      chunkTokens: 128,
    });
  });
  afterAll(() => loaded?.[Symbol.asyncDispose]());

  function generation(constraint: Constraint | undefined, more: Partial<Generation> = {}, seed = 0): Generation {
    return {
      promptIds,
      replayIds: new Uint32Array(0),
      maxTokens: 250,
      stopTokenIds: [],
      ignoreEos: false,
      sampling: { temperature: 1, topP: 1, topK: 0, seed: BigInt(seed) },
      firstPosition: 0,
      ...(constraint === undefined ? {} : { constraint }),
      ...more,
    };
  }

  async function answer(wanted: Generation): Promise<{ ids: number[]; text: string; reason: string | undefined }> {
    const { engine } = loaded;
    using pages = await engine.reserve(engine.room(wanted), signal);
    const { first } = await engine.prefill(wanted, pages, signal);
    const tokens = first === undefined ? [] : [first];
    for await (const token of engine.decode(wanted, pages, first, signal)) tokens.push(token);
    const ids = tokens.map(({ id }) => id);
    const text = tokenizer.decode(tokens.at(-1)?.finishReason === 'stop' ? ids.slice(0, -1) : ids);
    return { ids, text, reason: tokens.at(-1)?.finishReason };
  }

  it.skipIf(!existsSync(modelPath))('writes documents of a schema, whatever the seed and the temperature', async () => {
    const greedy = { sampling: { temperature: 0, topP: 1, topK: 0, seed: 0n } };
    const wanted = [
      generation(FORMAT, greedy),
      ...Array.from({ length: seeds }, (_, seed) => generation(FORMAT, {}, seed)),
      ...Array.from({ length: seeds / 6 }, (_, seed) =>
        generation(FORMAT, {
          sampling: { temperature: 1.5, topP: 0.9, topK: 50, seed: BigInt(seed), repetitionPenalty: 1.2, minP: 0.01 },
        }),
      ),
    ];
    const answers = await Promise.all(wanted.map(answer));
    const whole = answers.filter(({ reason }) => reason === 'stop');
    // Friends of friends have no end for a model that writes at random.
    expect(whole.length).toBeGreaterThan(wanted.length / 4);
    for (const { text } of whole) expect(validPerson(JSON.parse(text)), text).toBe(true);
    expect(new Set(answers.map(({ text }) => text)).size).toBeGreaterThan(wanted.length / 2);
  });

  it.skipIf(!existsSync(modelPath))('writes any JSON object, a pattern, one of several choices', async () => {
    const object = generation({ kind: 'json_object' }, { maxTokens: 300 });
    const answers = await Promise.all(
      Array.from({ length: seeds / 3 }, (_, seed) =>
        answer({ ...object, sampling: { ...object.sampling, temperature: 0.8, seed: BigInt(seed) } }),
      ),
    );
    for (const { text } of answers.filter(({ reason }) => reason === 'stop')) expect(JSON.parse(text)).toBeTypeOf('object');
    const date = await answer(generation({ kind: 'regex', pattern: '\\d{4}-\\d{2}-\\d{2}' }));
    expect(date).toMatchObject({ text: expect.stringMatching(/^\d{4}-\d{2}-\d{2}$/), reason: 'stop' });
    const choice = await answer(generation({ kind: 'choice', choices: ['yes', 'no', 'naïve – 日本'] }));
    expect(choice).toMatchObject({ text: expect.stringMatching(/^(yes|no|naïve – 日本)$/), reason: 'stop' });
  });

  it.skipIf(!existsSync(modelPath))('leaves free answers beside them as they are alone', async () => {
    const free = generation(undefined, { maxTokens: 40, ignoreEos: true });
    const alone = await answer(free);
    const [together, ...held] = await Promise.all([
      answer(free),
      ...Array.from({ length: 3 }, (_, seed) => answer(generation(FORMAT, {}, seed))),
    ]);
    expect(together.ids).toEqual(alone.ids);
    const again = await answer(generation(FORMAT, {}, 2));
    expect(held[2]?.ids).toEqual(again.ids);
  });

  it.skipIf(!existsSync(modelPath))('goes on with a document from anywhere, read anew or replayed', async () => {
    const whole = await answer(generation(FORMAT, {}, 5));
    for (const at of [1, 7, 20]) {
      if (at >= whole.ids.length - 1) continue;
      const given = whole.ids.slice(0, at);
      const replayed = await answer(
        generation(FORMAT, { replayIds: Uint32Array.from(given), firstPosition: at, exactResume: true }, 5),
      );
      expect([...given, ...replayed.ids]).toEqual(whole.ids);
      const reread = generation(FORMAT, { promptIds: Uint32Array.from([...promptIds, ...given]), firstPosition: at }, 5);
      expect(tokenizer.decode([...given, ...(await answer(reread)).ids])).toMatch(/^\{/);
    }
  });

  it.skipIf(!existsSync(modelPath))('refuses what it could not end', async () => {
    await expect(answer(generation(FORMAT, { ignoreEos: true }))).rejects.toMatchObject({
      reason: 'bad_request',
      field: 'ignore_eos',
    });
    const bad: Constraint = { kind: 'json_schema', schema: '{"type": "strin"}' };
    await expect(answer(generation(bad))).rejects.toMatchObject({ code: 'invalid_argument', reason: 'bad_request' });
    expect((await answer(generation({ kind: 'choice', choices: ['still here'] }))).text).toBe('still here');
    await expect.poll(() => loaded.pool.freePages).toBe(loaded.pool.totalPages);
  });
});
