/** Prefill on one chip family, decode on another, over real processes and servers: every pair of families, exact and rounded. */
import type { AttemptResult } from '@causeway/testkit';
import { describe, expect, it } from 'vitest';
import {
  answerAlone,
  chosen,
  engineAlone,
  firstDifference,
  goldenPrompts,
  ids,
  needsSmollm2,
  prose,
  SMOLLM2,
  startTestCluster,
  TINY_MOE,
  withoutSmollm2,
} from '../evidence/harness.ts';

const LOSSY = { CAUSEWAY_KV_LOSSY: 'on' };
const CPU = { CAUSEWAY_CHIP: 'cpu', CAUSEWAY_KV_DTYPE: 'f32' };
const emulated = (chip: string, more: Record<string, string> = {}) => ({
  CAUSEWAY_CHIP: chip,
  CAUSEWAY_CHIP_EMULATED: 'on',
  ...more,
});
const NVIDIA = emulated('nvidia', { CAUSEWAY_KV_LAYOUT: 'HND', CAUSEWAY_BLOCK_TOKENS: '64' });
const ASCEND = emulated('ascend', { CAUSEWAY_KV_LAYOUT: 'NZ' });
const CAMBRICON = emulated('cambricon');
const CHIPS: Record<string, Record<string, string>> = { cpu: CPU, nvidia: NVIDIA, ascend: ASCEND, cambricon: CAMBRICON };
const DTYPE: Record<string, string> = { cpu: 'f32', nvidia: 'bf16', ascend: 'bf16', cambricon: 'bf16' };

/** One worker of each role for each of these environments; ids end in 1, 2, ... in their order. */
function cluster(model: string, workers: readonly Record<string, string>[], more: Record<string, string> = {}) {
  const env: Record<string, Record<string, string>> = {};
  for (const [i, own] of workers.entries()) for (const role of ['prefill', 'decode']) env[`${role}-${i + 1}`] = own;
  return startTestCluster({ model, prefill: workers.length, decode: workers.length, env, workerEnv: { ...LOSSY, ...more } });
}

const kept = (result: AttemptResult) => result.kv?.representation;

describe('every family to every other', () => {
  it('tiny-moe: bf16 pages of one family are bf16 pages of any other, and the answer has the bits of one engine alone', async () => {
    const names = Object.keys(CHIPS);
    await using there = await cluster(TINY_MOE, Object.values(CHIPS));
    await using rounding = await engineAlone(TINY_MOE, ASCEND);
    const [prompt = []] = (await goldenPrompts(TINY_MOE)).slice(-1);
    const generation = { promptIds: prompt, maxTokens: 12, ignoreEos: true, returnLogits: true };
    const alone = await answerAlone(rounding, generation);
    for (const [p, from] of names.entries()) {
      for (const [d, to] of names.entries()) {
        const result = await there.attempt(generation, { prefill: `prefill-${p + 1}`, decode: `decode-${d + 1}` });
        const what = `${from} to ${to}`;
        expect(result.kv?.outcome, what).toBe(1);
        const lossless = !(DTYPE[from] === 'f32' && DTYPE[to] === 'bf16');
        expect(kept(result), what).toMatchObject({ lossless, wire: from === 'cpu' && to === 'cpu' ? 'f32' : 'bf16' });
        expect(result.kv?.prefilledTokens, what).toBe(0);
        expect(result.kv?.rawBytes, what).toBe(result.sent?.stats?.rawBytes);
        if (DTYPE[from] === 'bf16' && DTYPE[to] === 'bf16') expect(firstDifference(chosen(result), alone), what).toBeUndefined();
      }
    }
  });

  it('tiny-moe: 8 bits of one family become 8 bits of another only by rounding, which the answer says', async () => {
    const f8 = emulated('nvidia', { CAUSEWAY_KV_DTYPE: 'f8e4m3', CAUSEWAY_KV_LAYOUT: 'HND' });
    const int8 = emulated('ascend', { CAUSEWAY_KV_DTYPE: 'int8', CAUSEWAY_KV_LAYOUT: 'NZ' });
    const scaled = emulated('cambricon', { CAUSEWAY_KV_DTYPE: 'int8' });
    await using there = await cluster(TINY_MOE, [f8, int8, scaled]);
    await using same = await engineAlone(TINY_MOE, scaled);
    const [prompt = []] = (await goldenPrompts(TINY_MOE)).slice(-1);
    const generation = { promptIds: prompt, maxTokens: 8, ignoreEos: true, returnLogits: true };
    for (const prefill of [1, 2, 3]) {
      for (const decode of [1, 2, 3]) {
        const result = await there.attempt(generation, { prefill: `prefill-${prefill}`, decode: `decode-${decode}` });
        expect(result.tokens).toHaveLength(8);
        expect(kept(result)?.lossless).toBe(prefill === decode);
        if (prefill === 3 && decode === 3) {
          expect(firstDifference(chosen(result), await answerAlone(same, generation))).toBeUndefined();
        }
      }
    }
  });

  it('what arrives is what is read: numbers altered at the sender change the answer of another family', async () => {
    const altered = { ...NVIDIA, CAUSEWAY_KV_TAMPER: 'key-of-layer-0' };
    await using there = await startTestCluster({
      model: TINY_MOE,
      prefill: 2,
      env: { 'prefill-1': NVIDIA, 'prefill-2': altered, 'decode-1': ASCEND },
    });
    const [prompt = []] = await goldenPrompts(TINY_MOE);
    const generation = { promptIds: prompt, maxTokens: 6, ignoreEos: true, returnLogits: true };
    const [whole, other] = [
      chosen(await there.attempt(generation, { prefill: 'prefill-1' })),
      chosen(await there.attempt(generation, { prefill: 'prefill-2' })),
    ];
    // the first token comes from the prefill worker, whose own pages are untouched
    expect(firstDifference(other.slice(0, 1), whole.slice(0, 1))).toBeUndefined();
    expect(firstDifference(other.slice(1), whole.slice(1))).toBeDefined();
    const again = chosen(await there.attempt(generation, { prefill: 'prefill-1' }));
    expect(firstDifference(again, whole)).toBeUndefined();
  });

  it('sends 4 bits where the prefill worker is told to, though both ends store more, and the answer says that it was rounded', async () => {
    await using there = await cluster(TINY_MOE, [CPU], { CAUSEWAY_KV_WIRE: 'int4' });
    const [prompt = []] = (await goldenPrompts(TINY_MOE)).slice(-1);
    const result = await there.attempt({ promptIds: prompt, maxTokens: 8, ignoreEos: true });
    expect(result.kv?.outcome).toBe(1);
    expect(kept(result)).toEqual({ sender: 'f32 NHD 16', receiver: 'f32 NHD 16', wire: 'int4', lossless: false });
    // 5 layers of 64 numbers with a factor, against 4 bytes each
    expect(Number(result.kv?.rawBytes)).toBe(prompt.length * 5 * (64 / 2 + 4));
    expect(result.tokens).toHaveLength(8);
  });

  it('refuses to round where the deployment does not allow it, and says what to set', async () => {
    await using there = await startTestCluster({ model: TINY_MOE, env: { 'prefill-1': CPU, 'decode-1': ASCEND } });
    const [prompt = []] = await goldenPrompts(TINY_MOE);
    await expect(there.attempt({ promptIds: prompt, maxTokens: 4 })).rejects.toThrow(
      /f32 NHD 16 to bf16 NZ 128 split rounds numbers.*CAUSEWAY_KV_LOSSY/,
    );
  });

  it.skipIf(withoutSmollm2)(`SmolLM2: nvidia to ascend to the bit of one engine alone ${needsSmollm2}`, async () => {
    await using there = await startTestCluster({ model: SMOLLM2, env: { 'prefill-1': NVIDIA, 'decode-1': ASCEND } });
    await using rounding = await engineAlone(SMOLLM2, CAMBRICON);
    const generation = { promptIds: await prose(300), maxTokens: 12, ignoreEos: true, returnLogits: true };
    const result = await there.attempt(generation);
    expect(kept(result)).toEqual({ sender: 'bf16 HND 64', receiver: 'bf16 NZ 128', wire: 'bf16', lossless: true });
    expect(firstDifference(chosen(result), await answerAlone(rounding, generation))).toBeUndefined();
    expect(ids(result.tokens)).toHaveLength(12);
  });
});
