/** Whatever path the KV took, decode computes the bits that an engine alone computes: every logit of every token. */
import { KV_CODECS } from '@causeway/kv';
import { codecToProto } from '@causeway/kv-transport';
import type { LoadedEngine } from '@causeway/worker-runtime';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  answerAlone,
  chosen,
  engineAlone,
  firstDifference,
  goldenPrompts,
  needsSmollm2,
  SMOLLM2,
  startTestCluster,
  type TestCluster,
  TINY_MOE,
  withoutSmollm2,
} from './harness.ts';

const MODELS = [
  { model: 'tiny-moe (MLA)', path: TINY_MOE, skip: false, note: '' },
  { model: 'SmolLM2 (GQA)', path: SMOLLM2, skip: withoutSmollm2, note: ` ${needsSmollm2}` },
];
const CASES = MODELS.flatMap((model) => (['f32', 'bf16'] as const).map((dtype) => ({ ...model, dtype })));
/** Short chunks: the prompt is read, packed and sent in several. */
const TOKENS = 10;

describe.each(CASES)('$model with $dtype pages', ({ path, skip, note, dtype }) => {
  const env = { CAUSEWAY_KV_DTYPE: dtype, CAUSEWAY_CHUNK_TOKENS: '64' };
  let cluster: TestCluster;
  let alone: LoadedEngine;
  let prompts: number[][];

  beforeAll(async () => {
    if (skip) return;
    prompts = (await goldenPrompts(path)).filter((prompt) => prompt.length > 30 && prompt.length < 400);
    cluster = await startTestCluster({
      model: path,
      prefill: KV_CODECS.length,
      workerEnv: env,
      env: Object.fromEntries(KV_CODECS.map((codec, i) => [`prefill-${i + 1}`, { CAUSEWAY_KV_CODEC: codec }])),
    });
    alone = await engineAlone(path, env);
  });
  afterAll(async () => {
    await cluster?.[Symbol.asyncDispose]();
    await alone?.[Symbol.asyncDispose]();
  });

  it.skipIf(skip)(`has the logits of the engine alone, bit for bit, with every lossless codec${note}`, async () => {
    for (const promptIds of [prompts[0]!, prompts.at(-1)!]) {
      const generation = { promptIds, maxTokens: TOKENS, ignoreEos: true, returnLogits: true };
      const expected = await answerAlone(alone, generation);
      expect(expected).toHaveLength(TOKENS);
      for (const [i, codec] of KV_CODECS.entries()) {
        const result = await cluster.attempt(generation, { prefill: `prefill-${i + 1}` });
        expect(firstDifference(chosen(result), expected), `${codec}, ${promptIds.length} tokens`).toBeUndefined();
        expect(result.kv).toMatchObject({ prefilledTokens: 0 });
        expect(result.sent?.stats).toMatchObject({ codec: codecToProto(codec), rawBytes: result.kv?.rawBytes });
      }
    }
  });
});
