import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openCheckpoint } from './checkpoint.ts';
import { sharedFolder, TINY_MOE } from './testing/scratch.ts';
import { loadTokenizer } from './tokenizer.ts';

interface Case {
  messages: { role: string; content: string }[];
  prompt_ids: number[];
  greedy_ids: number[];
  text: string;
}
const SMOLLM2 = sharedFolder('models/smollm2-135m-instruct');

for (const [name, { path, absent }] of [
  ['tiny-moe', { path: TINY_MOE, absent: false }],
  ['SmolLM2 (GGUF Q4_1)', SMOLLM2],
] as const) {
  describe(`tokenizer of ${name}`, () => {
    it.skipIf(absent)('has the ids and texts of the reference', async () => {
      using checkpoint = await openCheckpoint(path);
      const tokenizer = loadTokenizer(checkpoint.tokenizerSource!);
      const { cases } = JSON.parse(readFileSync(join(path, 'golden.json'), 'utf8')) as { cases: Case[] };
      expect(cases.length).toBeGreaterThan(5);
      for (const { messages, prompt_ids, greedy_ids, text } of cases) {
        expect(tokenizer.encodeChat(messages)).toEqual(prompt_ids);
        expect(tokenizer.decode(greedy_ids)).toBe(text);
        const stream = tokenizer.decodeStream();
        expect(greedy_ids.map((id) => stream.push(id)).join('') + stream.flush()).toBe(text);
      }
      expect(tokenizer.vocabSize).toBe(checkpoint.config.vocabSize);
    });
  });
}

describe('SmolLM2 (GGUF Q4_1), opened', () => {
  it.skipIf(SMOLLM2.absent)('has the sizes of its config, and a place for every tensor', async () => {
    using checkpoint = await openCheckpoint(SMOLLM2.path);
    expect(checkpoint.config).toMatchObject({
      architecture: 'llama',
      hiddenSize: 576,
      layers: 30,
      heads: 9,
      kvHeads: 3,
      headDim: 64,
      intermediateSize: 1536,
      vocabSize: 49_152,
      contextLength: 8192,
      tieWordEmbeddings: true,
      rope: { type: 'default', theta: 100_000 },
      // <|im_end|>, and <|endoftext|> by its text.
      eosTokenIds: [2, 0],
    });
    expect(checkpoint.tensors.get('blk.29.attn_k.weight')).toMatchObject({ type: 'Q4_1', shape: [192, 576] });
    for (const { name, byteLength } of checkpoint.tensors.values()) {
      const place = checkpoint.data(name);
      expect(place.buffer.bytes(place.offset, place.byteLength).length).toBe(byteLength);
    }
  });

  it.skipIf(SMOLLM2.absent)('takes each digit alone, and gives an emoji whole', async () => {
    using checkpoint = await openCheckpoint(SMOLLM2.path);
    const tokenizer = loadTokenizer(checkpoint.tokenizerSource!);
    expect(tokenizer.encode('x 90210').map((id) => tokenizer.decode([id]))).toEqual(['x', ' ', '9', '0', '2', '1', '0']);
    const stream = tokenizer.decodeStream();
    const pieces = tokenizer.encode('🦊🏔️').map((id) => stream.push(id));
    expect(pieces.length).toBeGreaterThan(4);
    expect(pieces.join('') + stream.flush()).toBe('🦊🏔️');
    expect(pieces.some((piece) => piece.includes('\u{fffd}'))).toBe(false);
  });
});

describe('configs of ../shared/goldens', () => {
  const read = async (name: string) => {
    using checkpoint = await openCheckpoint(sharedFolder(`goldens/${name}`).path);
    return checkpoint.config;
  };
  const absent = sharedFolder('goldens').absent;

  it.skipIf(absent)('llama has Llama 3 scaling', async () => {
    expect(await read('llama')).toEqual({
      architecture: 'llama',
      hiddenSize: 64,
      layers: 3,
      heads: 4,
      kvHeads: 2,
      headDim: 16,
      intermediateSize: 128,
      vocabSize: 257,
      contextLength: 2048,
      rmsNormEps: 1e-6,
      tieWordEmbeddings: true,
      rope: { type: 'llama3', theta: 10_000, factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalContextLength: 64 },
      mla: undefined,
      moe: undefined,
      eosTokenIds: [2],
      bosTokenId: 1,
    });
  });

  it.skipIf(absent)('deepseek_v3 and kimi_k2 have latent attention, YaRN and grouped experts', async () => {
    const wanted = {
      architecture: 'deepseek_v3',
      headDim: 24,
      rope: {
        type: 'yarn',
        theta: 10_000,
        factor: 16,
        originalContextLength: 256,
        betaFast: 32,
        betaSlow: 1,
        mscale: 1,
        mscaleAllDim: 1,
      },
      mla: { qLoraRank: 24, kvLoraRank: 32, qkNopeHeadDim: 16, qkRopeHeadDim: 8, vHeadDim: 16, ropeInterleaved: true },
      moe: {
        experts: 8,
        expertsPerToken: 3,
        groups: 4,
        groupsPerToken: 2,
        sharedExperts: 1,
        expertInner: 32,
        firstDenseLayers: 1,
        normalizeTopK: true,
        routedScale: 2.5,
        scoring: undefined,
        correctionBias: undefined,
      },
    };
    expect(await read('deepseek_v3')).toMatchObject(wanted);
    expect(await read('kimi_k2')).toMatchObject({
      ...wanted,
      mla: { ...wanted.mla, qLoraRank: 32 },
      moe: { ...wanted.moe, experts: 12, expertsPerToken: 4, groups: 1, groupsPerToken: 1, routedScale: 2.827 },
    });
  });

  it.skipIf(absent)('families that are not run yet keep their names and what is common', async () => {
    const common = { hiddenSize: 64, vocabSize: 257, layers: 3 };
    expect(await read('qwen2')).toMatchObject({ ...common, architecture: 'qwen2', headDim: 16, eosTokenIds: [] });
    expect(await read('qwen3')).toMatchObject({ ...common, architecture: 'qwen3', headDim: 32 });
    expect(await read('qwen3_moe')).toMatchObject({
      ...common,
      architecture: 'qwen3_moe',
      moe: { experts: 8, expertsPerToken: 2, firstDenseLayers: 1, normalizeTopK: true, scoring: undefined },
    });
    expect(await read('deepseek_v32')).toMatchObject({ ...common, architecture: 'deepseek_v32', mla: { kvLoraRank: 32 } });
    expect(await read('kimi_linear')).toMatchObject({
      architecture: 'kimi_linear',
      contextLength: 1_048_576,
      moe: { experts: 8, expertsPerToken: 2, sharedExperts: 1, firstDenseLayers: 1, routedScale: 2.446 },
    });
    using unread = await openCheckpoint(sharedFolder('goldens/deepseek_v4').path);
    expect(unread.architecture).toBe('deepseek_v4');
  });
});
