import type { NativeBuffer } from '@causeway/ort';
import { describe, expect, it } from 'vitest';
import { huggingFaceName, type NamedTensors, withHuggingFaceNames } from './gguf-names.ts';
import { refusal } from './testing/scratch.ts';

const BLOCKS = { attn_q: 'self_attn.q_proj', ffn_norm: 'post_attention_layernorm' };

describe('huggingFaceName', () => {
  it.each([
    ['token_embd.weight', 'model.embed_tokens.weight'],
    ['output_norm.weight', 'model.norm.weight'],
    ['output.weight', 'lm_head.weight'],
    ['blk.12.attn_q.weight', 'model.layers.12.self_attn.q_proj.weight'],
    ['blk.12.attn_q.bias', 'model.layers.12.self_attn.q_proj.bias'],
    ['blk.3.ffn_norm.weight', 'model.layers.3.post_attention_layernorm.weight'],
  ])('%s is %s', (gguf, name) => {
    expect(huggingFaceName(BLOCKS, gguf)).toBe(name);
  });

  it('gives a part named with its kind the whole name', () => {
    const blocks = { 'odd.bias': 'mlp.odd_bias', odd: 'mlp.even' };
    expect(huggingFaceName(blocks, 'blk.1.odd.bias')).toBe('model.layers.1.mlp.odd_bias');
    expect(huggingFaceName(blocks, 'blk.1.odd.weight')).toBe('model.layers.1.mlp.even.weight');
  });

  it.each([
    'rope_freqs.weight',
    'blk.0.constructor.weight',
    'toString.weight',
    'blk.x.attn_q.weight',
    'blk.1.attn_q_norm.weight',
    'weight',
    '',
  ])('leaves %s as it is', (name) => {
    expect(huggingFaceName(BLOCKS, name)).toBe(name);
  });
});

describe('withHuggingFaceNames', () => {
  const checkpoint = (...names: string[]): NamedTensors => ({
    name: 'small',
    tensors: new Map(names.map((name) => [name, { name, type: 'F32', shape: [1], byteLength: 4 }])),
    data: (name) => ({ buffer: undefined as unknown as NativeBuffer, offset: names.indexOf(name), byteLength: 4 }),
  });

  it('gives each tensor its name, and finds its bytes by it', () => {
    const named = withHuggingFaceNames(checkpoint('output.weight', 'blk.1.attn_q.bias', 'odd'), BLOCKS);
    const wanted = ['lm_head.weight', 'model.layers.1.self_attn.q_proj.bias', 'odd'];
    expect([...named.tensors.keys()]).toEqual(wanted);
    expect([...named.tensors.values()].map((info) => info.name)).toEqual(wanted);
    expect(wanted.map((name) => named.data(name).offset)).toEqual([0, 1, 2]);
  });

  it('gives each expert of a layer its part of their tensor', () => {
    const info = { name: 'blk.2.ffn_up_exps.weight', type: 'Q8_0', shape: [3, 8, 32], byteLength: 3 * 8 * 34 } as const;
    const all: NamedTensors = {
      name: 'small',
      tensors: new Map([[info.name, info]]),
      data: () => ({ buffer: undefined as unknown as NativeBuffer, offset: 1000, byteLength: info.byteLength }),
    };
    const named = withHuggingFaceNames(all, { ffn_up_exps: 'mlp.experts.*.up_proj' });
    const names = [0, 1, 2].map((expert) => `model.layers.2.mlp.experts.${expert}.up_proj.weight`);
    expect([...named.tensors.values()]).toEqual(names.map((name) => ({ ...info, name, shape: [8, 32], byteLength: 8 * 34 })));
    expect(names.map((name) => named.data(name))).toEqual(
      [1000, 1272, 1544].map((offset) => ({ buffer: undefined, offset, byteLength: 272 })),
    );
  });

  it('splits nothing that it cannot count, nor too much', async () => {
    const name = 'blk.0.ffn_up_exps.weight';
    const all = (type: string, shape: number[], byteLength: number): NamedTensors => ({
      name: 'small',
      tensors: new Map([[name, { name, type, shape, byteLength }]]),
      data: () => ({ buffer: undefined as unknown as NativeBuffer, offset: 0, byteLength }),
    });
    const split = (from: NamedTensors) => withHuggingFaceNames(from, { ffn_up_exps: 'mlp.experts.*.up_proj' });
    expect([...split(all('ggml type 99', [2 ** 40, 1, 1], 0)).tensors.keys()]).toEqual([
      'model.layers.0.mlp.experts.0.up_proj.weight',
    ]);
    const error = await refusal(() => split(all('F32', [200_001, 1, 1], 800_004)));
    expect([error.reason, error.message]).toEqual(['malformed_file', expect.stringContaining('200000 tensors')]);
  });

  it('refuses two tensors that get the same name', async () => {
    const error = await refusal(() => withHuggingFaceNames(checkpoint('token_embd.weight', 'model.embed_tokens.weight'), BLOCKS));
    expect([error.reason, error.message]).toEqual(['malformed_file', expect.stringContaining('there twice')]);
  });
});
