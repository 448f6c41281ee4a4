/** Eight answers at once share runs of the decode graph, and none of them notices. */
import { scrape } from '@causeway/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  chosen,
  firstDifference,
  goldenPrompts,
  needsSmollm2,
  SMOLLM2,
  startTestCluster,
  type TestCluster,
  TINY_MOE,
  withoutSmollm2,
} from './harness.ts';

const STREAMS = 8;
const MODELS = [
  { model: 'tiny-moe (MLA)', path: TINY_MOE, skip: false, note: '', tokens: 64 },
  { model: 'SmolLM2 (GQA)', path: SMOLLM2, skip: withoutSmollm2, note: ` ${needsSmollm2}`, tokens: 24 },
];

describe.each(MODELS)('$model', ({ model, path, skip, note, tokens }) => {
  let cluster: TestCluster;

  beforeAll(async () => {
    if (skip) return;
    cluster = await startTestCluster({ model: path, workerEnv: { CAUSEWAY_MAX_SEQUENCES: String(STREAMS) } });
  });
  afterAll(async () => {
    await cluster?.[Symbol.asyncDispose]();
  });

  it.skipIf(skip)(`8 streams take fewer runs than tokens, and each has the bits of its solo run${note}`, async () => {
    const prompts = (await goldenPrompts(path)).filter((prompt) => prompt.length < 200);
    const generations = Array.from({ length: STREAMS }, (_, i) => ({
      promptIds: prompts[i % prompts.length]!,
      maxTokens: tokens - i,
      ignoreEos: true,
      returnLogits: true,
      // Half are greedy, half are drawn.
      sampling: { temperature: i % 2 === 0 ? 0 : 0.8, topP: 0.95, topK: 0, seed: BigInt(i) },
    }));
    const decodeWorker = cluster.worker('decode-1');
    const start = await scrape(decodeWorker);
    const solo = [];
    for (const generation of generations) solo.push(chosen(await cluster.attempt(generation)));
    const middle = await scrape(decodeWorker);
    const together = await Promise.all(generations.map(async (generation) => chosen(await cluster.attempt(generation))));
    const end = await scrape(decodeWorker);
    const [runs, generated] = ['causeway_decode_runs_total', 'vllm:generation_tokens_total'];
    // The first token of each stream comes from prefill.
    const decoded = generations.reduce((sum, { maxTokens }) => sum + maxTokens - 1, 0);
    expect(middle(generated) - start(generated)).toBe(decoded);
    expect(middle(runs) - start(runs)).toBe(decoded);
    expect(end(generated) - middle(generated)).toBe(decoded);
    expect(end(runs) - middle(runs)).toBeLessThan(decoded);
    expect(end('causeway_prefill_tokens_total')).toBe(0);
    for (const [i, tokensTogether] of together.entries()) {
      expect(firstDifference(tokensTogether, solo[i]!), `stream ${i}`).toBeUndefined();
    }
    console.log(`${model}: ${decoded} tokens of ${STREAMS} streams in ${end(runs) - middle(runs)} runs, alone in ${decoded}`);
  });
});
