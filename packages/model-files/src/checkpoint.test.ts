import { createHash } from 'node:crypto';
import { appendFileSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { liveBuffers } from '@causeway/ort';
import { describe, expect, it } from 'vitest';
import { openCheckpoint } from './checkpoint.ts';
import { type GgufContent, ggufBytes, LLAMA_METADATA, withMetadata } from './testing/gguf-writer.ts';
import { rawSafetensors, safetensorsBytes } from './testing/safetensors-writer.ts';
import { refusal, type Scratch, scratch } from './testing/scratch.ts';

const config = {
  model_type: 'llama',
  hidden_size: 4,
  num_hidden_layers: 1,
  num_attention_heads: 1,
  intermediate_size: 8,
  vocab_size: 3,
};
const numbers = (...values: number[]) => new Uint8Array(Float32Array.from(values).buffer);
const gguf: GgufContent = {
  metadata: LLAMA_METADATA,
  tensors: [
    { name: 'token_embd.weight', dims: [2, 3], bytes: numbers(0, 1, 2, 3, 4, 5) },
    { name: 'blk.1.attn_k.weight', dims: [3], bytes: numbers(7, 8, 9) },
    { name: 'odd', dims: [4], type: 99, bytes: new Uint8Array(32) },
  ],
};
const sha256 = (...files: Uint8Array[]) => files.reduce((hash, file) => hash.update(file), createHash('sha256')).digest('hex');

/** Refuses to open `path`, leaving nothing mapped. */
async function refused(path: string) {
  const before = liveBuffers();
  const error = await refusal(() => openCheckpoint(path));
  expect(liveBuffers()).toBe(before);
  return error;
}

function sharded(dir: Scratch, weightMap: Record<string, string>): void {
  dir.write('config.json', config);
  dir.write('one.safetensors', safetensorsBytes({ a: [2] }));
  dir.write('two.safetensors', safetensorsBytes({ b: [3] }));
  dir.write('model.safetensors.index.json', { metadata: { total_size: 20 }, weight_map: weightMap });
}

describe('openCheckpoint', () => {
  it('maps a GGUF file, by file or directory', async () => {
    using dir = scratch();
    const path = dir.write('small.gguf', ggufBytes(gguf));
    for (const [where, name] of [
      [path, 'small'],
      [dir.path, dir.path.split('/').at(-1)],
    ] as const) {
      using checkpoint = await openCheckpoint(where);
      expect(checkpoint).toMatchObject({ format: 'gguf', name, architecture: 'llama', tokenizerSource: undefined });
      expect(checkpoint.config).toMatchObject({ architecture: 'llama', vocabSize: 3 });
      expect(checkpoint.tensors.get('token_embd.weight')).toMatchObject({ type: 'F32', shape: [3, 2], byteLength: 24 });
      const { buffer, offset, byteLength } = checkpoint.data('blk.1.attn_k.weight');
      expect(Buffer.from(buffer.bytes(offset, byteLength))).toEqual(Buffer.from(numbers(7, 8, 9)));
    }
  });

  it('refuses a tensor of an unknown type only when it is asked for, naming both', async () => {
    using dir = scratch();
    using checkpoint = await openCheckpoint(dir.write('small.gguf', ggufBytes(gguf)));
    const error = await refusal(() => checkpoint.data('odd'));
    expect([error.reason, error.message]).toEqual(['unsupported_format', expect.stringMatching(/tensor odd .*ggml type 99/)]);
    expect((await refusal(() => checkpoint.data('output_norm.weight'))).reason).toBe('missing_tensor');
  });

  it('maps single and sharded safetensors', async () => {
    using single = scratch();
    single.write('config.json', { ...config, eos_token_id: 1 });
    single.write('generation_config.json', { eos_token_id: [2] });
    single.write('model.safetensors', safetensorsBytes({ a: [2], b: [3] }));
    using split = scratch();
    sharded(split, { a: 'one.safetensors', b: 'two.safetensors' });
    for (const dir of [single, split]) {
      using checkpoint = await openCheckpoint(dir.path);
      expect(checkpoint).toMatchObject({ format: 'safetensors', architecture: 'llama' });
      const { buffer, offset, byteLength } = checkpoint.data('b');
      expect(Buffer.from(buffer.bytes(offset, byteLength))).toEqual(Buffer.from(numbers(0, 1, 2)));
      if (dir === single) expect(checkpoint.config.eosTokenIds).toEqual([1, 2]);
    }
  });

  it('prefers safetensors to a GGUF beside them, and takes the GGUF of a repository that only has its config', async () => {
    using dir = scratch();
    dir.write('config.json', config);
    dir.write('small.gguf', ggufBytes(gguf));
    {
      using checkpoint = await openCheckpoint(dir.path);
      expect(checkpoint.format).toBe('gguf');
    }
    dir.write('model.safetensors', safetensorsBytes({ a: [2] }));
    using checkpoint = await openCheckpoint(dir.path);
    expect(checkpoint.format).toBe('safetensors');
  });

  it('gives the language model of a multimodal checkpoint its plain names', async () => {
    using dir = scratch();
    dir.write('config.json', { model_type: 'wrapper', text_config: config });
    dir.write(
      'model.safetensors',
      safetensorsBytes({ 'language_model.model.norm.weight': [2], 'model.language_model.x': [1], 'vision_tower.y': [1] }),
    );
    using checkpoint = await openCheckpoint(dir.path);
    expect([...checkpoint.tensors.keys()]).toEqual(['model.norm.weight', 'model.x', 'vision_tower.y']);
  });

  it('opens an architecture whose config it cannot read, and refuses that when it is asked for', async () => {
    using dir = scratch();
    const metadata = withMetadata(LLAMA_METADATA, { 'general.architecture': { text: 'mamba' } });
    dir.write('config.json', { model_type: 'gpt2', n_embd: 768 });
    for (const [path, architecture, field] of [
      [dir.write('small.gguf', ggufBytes({ ...gguf, metadata })), 'mamba', 'mamba.attention.head_count'],
      [dir.path, 'gpt2', 'hidden_size'],
    ] as const) {
      if (path === dir.path) dir.write('model.safetensors', safetensorsBytes({ a: [2] }));
      using checkpoint = await openCheckpoint(path);
      expect(checkpoint.architecture).toBe(architecture);
      const error = await refusal(() => checkpoint.config);
      expect([error.reason, error.message]).toEqual(['malformed_file', expect.stringContaining(field)]);
    }
  });

  it('unmaps its files when disposed, once', async () => {
    using dir = scratch();
    const before = liveBuffers();
    const checkpoint = await openCheckpoint(dir.write('small.gguf', ggufBytes(gguf)));
    const { buffer } = checkpoint.data('token_embd.weight');
    expect(liveBuffers()).toBe(before + 1);
    checkpoint[Symbol.dispose]();
    checkpoint[Symbol.dispose]();
    expect(liveBuffers()).toBe(before);
    expect((await refusal(() => buffer.bytes())).reason).toBe('runtime');
  });
});

describe('weightsHash', () => {
  it('is the SHA-256 of the files, whatever their name', async () => {
    using dir = scratch();
    const path = dir.write('small.gguf', ggufBytes(gguf));
    const wanted = sha256(readFileSync(path));
    using one = await openCheckpoint(path);
    expect(await one.weightsHash()).toBe(wanted);
    renameSync(path, join(dir.path, 'other.gguf'));
    using two = await openCheckpoint(join(dir.path, 'other.gguf'));
    expect(await two.weightsHash()).toBe(wanted);
  });

  it('goes over shards in order of their names, and works after disposal', async () => {
    using dir = scratch();
    sharded(dir, { b: 'two.safetensors', a: 'one.safetensors' });
    const checkpoint = await openCheckpoint(dir.path);
    checkpoint[Symbol.dispose]();
    const files = ['one.safetensors', 'two.safetensors'].map((name) => readFileSync(join(dir.path, name)));
    expect(await checkpoint.weightsHash()).toBe(sha256(...files));
  });

  it('refuses a file that changed, was replaced or is gone', async () => {
    for (const [change, message] of [
      [(path: string) => appendFileSync(path, 'x'), 'changed'],
      [(path: string) => (writeFileSync(`${path}.new`, ggufBytes(gguf)), renameSync(`${path}.new`, path)), 'changed'],
      [(path: string) => renameSync(path, `${path}.old`), 'ENOENT'],
    ] as const) {
      using dir = scratch();
      const path = dir.write('small.gguf', ggufBytes(gguf));
      using checkpoint = await openCheckpoint(path);
      change(path);
      const error = await refusal(() => checkpoint.weightsHash());
      expect([error.reason, error.message]).toEqual(['file_unreadable', expect.stringContaining(message)]);
    }
  });
});

describe('openCheckpoint refuses', () => {
  it('paths that hold no checkpoint', async () => {
    using dir = scratch();
    expect((await refused(join(dir.path, 'nothing'))).message).toContain('does not exist');
    expect((await refused(dir.path)).message).toContain('found 0');
    dir.write('config.json', config);
    expect((await refused(dir.path)).message).toContain('model.safetensors');
    dir.write('a.gguf', 'x');
    dir.write('b.gguf', 'x');
    expect((await refused(dir.path)).message).toContain('found 2');
    expect((await refused(dir.write('m.safetensors', 'x'))).message).toContain('give the directory');
    expect((await refused(dir.write('empty.gguf', ''))).reason).toBe('malformed_file');
    expect((await refused('a\0b')).reason).toBe('file_unreadable');
  });

  it('one part of a split GGUF', async () => {
    using dir = scratch();
    const part = { ...gguf, metadata: withMetadata(LLAMA_METADATA, { 'split.count': { u32: 3 } }) };
    expect((await refused(dir.write('part.gguf', ggufBytes(part)))).message).toContain('one of 3 parts');
  });

  it('two tensors of the same name', async () => {
    using dir = scratch();
    const tensors = ['token_embd.weight', 'token_embd.weight'].map((name) => ({ name, dims: [2], bytes: numbers(1, 2) }));
    expect((await refused(dir.write('x.gguf', ggufBytes({ ...gguf, tensors })))).message).toContain('there twice');
  });

  it('shards that are missing, leave the directory, or lack what the index promises', async () => {
    const refusedIndex = async (weightMap: Record<string, string>) => {
      using dir = scratch();
      sharded(dir, weightMap);
      mkdirSync(join(dir.path, 'sub'));
      return (await refused(dir.path)).message;
    };
    expect(await refusedIndex({ a: 'one.safetensors', b: 'three.safetensors' })).toContain('three.safetensors is missing');
    for (const name of ['../one.safetensors', '/etc/passwd', 'sub/one.safetensors', '..', '.', '', 'a\0b', '..\\one'])
      expect(await refusedIndex({ a: name })).toContain('not a plain file name');
    expect(await refusedIndex({ a: 'one.safetensors', c: 'two.safetensors' })).toContain('holds the tensor c');
    expect(await refusedIndex({ a: 'two.safetensors', b: 'one.safetensors' })).toContain('it does not');
    expect(await refusedIndex({})).toContain('names 0 files');
    expect(await refusedIndex({ a: 'sub' })).toContain('not a regular file');
  });

  it('damaged files beside sound ones', async () => {
    for (const [name, content, message] of [
      ['config.json', '{"model_type":', 'not JSON'],
      ['config.json', '[]', 'model_type'],
      ['generation_config.json', 'x', 'not JSON'],
      ['tokenizer.json', '7', 'not a JSON object'],
      ['tokenizer.json', '{"a"', 'not JSON'],
      ['model.safetensors.index.json', '{}', 'weight_map'],
      ['config.json', ' '.repeat(10_000_001), 'the limit is'],
      ['model.safetensors', rawSafetensors('{"a":{', new Uint8Array()), 'not JSON'],
    ] as const) {
      using dir = scratch();
      dir.write('config.json', config);
      dir.write('model.safetensors', safetensorsBytes({ a: [2] }));
      dir.write(name, content);
      const error = await refused(dir.path);
      expect([error.reason, error.message]).toEqual(['malformed_file', expect.stringContaining(message)]);
      expect(error.message).toContain(name);
    }
  });
});
