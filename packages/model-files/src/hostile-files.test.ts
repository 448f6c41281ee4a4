import type { GgufMetadataValue } from '@causeway/testkit';
import { ServiceError } from '@causeway/errors';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { configFromGguf } from './gguf-config.ts';
import { ggufTokenizerSource } from './gguf-tokenizer.ts';
import { readGguf } from './gguf.ts';
import { configFromHuggingFace } from './hf-config.ts';
import { readSafetensorsHeader } from './safetensors.ts';
import { ggufBytes, LLAMA_METADATA } from './testing/gguf-writer.ts';
import { safetensorsBytes } from './testing/safetensors-writer.ts';
import { type Scratch, scratch } from './testing/scratch.ts';

/** Memory that reading a file of a few kilobytes may take. */
const MOST_BYTES = 32 * 1024 * 1024;

const tokenizerMetadata: readonly (readonly [string, GgufMetadataValue])[] = [
  ['tokenizer.ggml.model', { text: 'gpt2' }],
  ['tokenizer.ggml.pre', { text: 'smollm' }],
  ['tokenizer.ggml.tokens', { texts: ['a', 'b', 'ab', '<end>'] }],
  ['tokenizer.ggml.merges', { texts: ['a b'] }],
  ['tokenizer.ggml.token_type', { i32s: [1, 1, 1, 3] }],
  ['tokenizer.ggml.eos_token_id', { u32: 3 }],
];
const gguf = ggufBytes({
  metadata: [...LLAMA_METADATA, ...tokenizerMetadata],
  tensors: [
    { name: 'token_embd.weight', dims: [32, 7], bytes: new Uint8Array(896) },
    { name: 'blk.0.attn_q.weight', dims: [32, 32], type: 8, bytes: new Uint8Array(1088) },
    { name: 'blk.0.attn_k.weight', dims: [256, 1], type: 12, bytes: new Uint8Array(144) },
    { name: 'blk.0.attn_v.weight', dims: [256, 1], type: 14, bytes: new Uint8Array(210) },
    { name: 'blk.0.ffn_up.weight', dims: [32, 2, 2], type: 6, bytes: new Uint8Array(88) },
  ],
});
const sentencePiece = ggufBytes({
  metadata: [
    ...LLAMA_METADATA,
    ['tokenizer.ggml.model', { text: 'llama' }],
    ['tokenizer.ggml.tokens', { texts: ['<unk>', 'a', 'b', 'ab'] }],
    ['tokenizer.ggml.scores', { f32s: [0, -1, -2, -3] }],
    ['tokenizer.ggml.token_type', { i32s: [2, 1, 1, 1] }],
  ],
});
const safetensors = safetensorsBytes({ 'model.norm.weight': [32], 'lm_head.weight': [7, 32], scale: [] });

/** A file with some bytes changed, 8 bytes replaced by a large number, cut short, or made longer. */
function damaged(file: Buffer): fc.Arbitrary<Buffer> {
  const position = fc.nat(file.length - 9);
  const bytes = fc.array(fc.tuple(position, fc.nat(255)), { minLength: 1, maxLength: 6 }).map((changes) => {
    const copy = Buffer.from(file);
    for (const [at, value] of changes) copy[at] = value;
    return copy;
  });
  const huge = fc.tuple(position, fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })).map(([at, value]) => {
    const copy = Buffer.from(file);
    copy.writeBigUInt64LE(value, at);
    return copy;
  });
  const cut = fc.nat(file.length).map((end) => file.subarray(0, end));
  const longer = fc.uint8Array({ maxLength: 100 }).map((more) => Buffer.concat([file, more]));
  return fc.oneof(bytes, huge, cut, longer);
}

/** Runs `read` and gives what it took of the heap and outside it; only ServiceErrors may leave it. */
function costOf(read: () => void): number {
  const before = process.memoryUsage();
  try {
    read();
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    if (error.reason === 'internal') throw error;
  }
  const after = process.memoryUsage();
  return after.heapUsed - before.heapUsed + (after.arrayBuffers - before.arrayBuffers);
}

describe('damaged files give a ServiceError or are read, and take little memory', () => {
  let dir: Scratch;
  beforeAll(() => {
    dir = scratch();
  });
  afterAll(() => dir[Symbol.dispose]());

  it('GGUF: header, config and tokenizer', () => {
    let readable = 0;
    const read = (bytes: Buffer): void => {
      const file = readGguf('x.gguf', bytes);
      for (const { byteLength, fileOffset } of file.tensors) expect(fileOffset + byteLength).toBeLessThanOrEqual(bytes.length);
      configFromGguf('x.gguf', file);
      ggufTokenizerSource('x.gguf', file.metadata);
      readable++;
    };
    for (const file of [gguf, sentencePiece]) {
      read(file);
      fc.assert(
        fc.property(damaged(file), (bytes) => {
          expect(costOf(() => read(bytes))).toBeLessThan(MOST_BYTES);
        }),
        { numRuns: 3000 },
      );
    }
    expect(readable).toBeGreaterThan(2);
  });

  it('safetensors', () => {
    const read = (bytes: Buffer): void => {
      for (const { byteLength, fileOffset } of readSafetensorsHeader(dir.write('m.safetensors', bytes)))
        expect(fileOffset + byteLength).toBeLessThanOrEqual(bytes.length);
    };
    read(safetensors);
    fc.assert(
      fc.property(damaged(safetensors), (bytes) => {
        expect(costOf(() => read(bytes))).toBeLessThan(MOST_BYTES);
      }),
      { numRuns: 1000 },
    );
  });

  it('bytes that never were a model', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
        costOf(() => readGguf('x.gguf', bytes));
        costOf(() => readGguf('x.gguf', Buffer.concat([gguf.subarray(0, 24), bytes])));
        costOf(() => readSafetensorsHeader(dir.write('m.safetensors', bytes)));
      }),
      { numRuns: 500 },
    );
  });

  it('config.json of any JSON, or with any field replaced', () => {
    const config = {
      model_type: 'deepseek_v3',
      hidden_size: 64,
      num_hidden_layers: 3,
      num_attention_heads: 4,
      intermediate_size: 128,
      vocab_size: 257,
      kv_lora_rank: 32,
      qk_nope_head_dim: 16,
      qk_rope_head_dim: 8,
      v_head_dim: 16,
      n_routed_experts: 8,
      num_experts_per_tok: 3,
      n_group: 4,
      topk_group: 2,
      moe_intermediate_size: 32,
      rope_parameters: { rope_type: 'yarn', factor: 16, rope_theta: 1e4 },
      eos_token_id: 1,
    };
    expect(configFromHuggingFace('config.json', config, undefined).moe?.experts).toBe(8);
    fc.assert(
      fc.property(fc.jsonValue(), (json) => void costOf(() => configFromHuggingFace('config.json', json, json))),
      { numRuns: 500 },
    );
    fc.assert(
      fc.property(fc.constantFrom(...Object.keys(config)), fc.jsonValue(), (field, value) => {
        costOf(() => {
          const read = configFromHuggingFace('config.json', { ...config, [field]: value }, undefined);
          for (const number of Object.values(read)) if (typeof number === 'number') expect(Number.isFinite(number)).toBe(true);
        });
      }),
      { numRuns: 1000 },
    );
  });
});
