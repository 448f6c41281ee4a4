/** Decode computes from the KV that was transferred, and from nothing else. */
import type { LoadedEngine } from '@causeway/worker-runtime';
import { scrape } from '@causeway/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  answerAlone,
  chosen,
  distance,
  engineAlone,
  firstDifference,
  goldenPrompts,
  needsSmollm2,
  rowOf,
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
const TOKENS = 24;

describe.each(MODELS)('$model', ({ model, path, skip, note }) => {
  const env = { CAUSEWAY_MAX_CONTEXT: '512', CAUSEWAY_MAX_SEQUENCES: '2' };
  let cluster: TestCluster;
  let alone: LoadedEngine;
  let promptIds: number[];

  beforeAll(async () => {
    if (skip) return;
    promptIds = (await goldenPrompts(path)).findLast((prompt) => prompt.length < 128)!;
    // Slots full of NaN before they are filled; slots and pages compared after every step.
    const workerEnv = { ...env, CAUSEWAY_DEBUG_CHECKS: 'on' };
    cluster = await startTestCluster({
      model: path,
      prefill: 2,
      workerEnv,
      env: { 'prefill-2': { CAUSEWAY_KV_TAMPER: 'key-of-layer-0' } },
    });
    alone = await engineAlone(path, env);
  });
  afterAll(async () => {
    await cluster?.[Symbol.asyncDispose]();
    await alone?.[Symbol.asyncDispose]();
  });

  it.skipIf(skip)(`slots full of NaN before use, nothing prefilled by decode: the bits of the engine alone${note}`, async () => {
    const generation = { promptIds, maxTokens: TOKENS, ignoreEos: true, returnLogits: true };
    const result = await cluster.attempt(generation);
    expect(firstDifference(chosen(result), await answerAlone(alone, generation))).toBeUndefined();
    expect(chosen(result).every((token) => rowOf(token).every(Number.isFinite))).toBe(true);
    const [prefill, decode] = [await scrape(cluster.worker('prefill-1')), await scrape(cluster.worker('decode-1'))];
    expect(prefill('causeway_prefill_tokens_total')).toBe(promptIds.length);
    expect(prefill('causeway_decode_runs_total')).toBe(0);
    expect(decode('causeway_prefill_tokens_total')).toBe(0);
    expect(decode('causeway_decode_runs_total')).toBe(TOKENS - 1);
  });

  it.skipIf(skip)(`K of layer 0 altered by the sender before its checksums changes what decode computes${note}`, async () => {
    const generation = { promptIds, maxTokens: TOKENS, ignoreEos: true, returnLogits: true };
    const [expected, altered] = [
      await answerAlone(alone, generation),
      chosen(await cluster.attempt(generation, { prefill: 'prefill-2' })),
    ];
    // The first token comes from the prefill worker, which altered only what it sent.
    expect(firstDifference(altered.slice(0, 1), expected.slice(0, 1))).toBeUndefined();
    const change = distance(altered[1]!, expected[1]!);
    expect(change).toBeGreaterThan(1e-3);
    const unaltered = chosen(await cluster.attempt(generation));
    expect(firstDifference(unaltered, expected)).toBeUndefined();
    console.log(`${model}: altered K of layer 0 moves a logit of the second token by ${change.toFixed(3)}; unaltered: 0`);
  });
});
