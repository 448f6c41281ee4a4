import { mkdirSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readSafetensorsHeader, readTensor } from './safetensors.ts';
import { rawSafetensors, safetensorsBytes } from './testing/safetensors-writer.ts';
import { refusal, scratch } from './testing/scratch.ts';

const f32 = (shape: number[], begin: number, end: number) => ({ dtype: 'F32', shape, data_offsets: [begin, end] });

async function message(content: Uint8Array): Promise<string> {
  using dir = scratch();
  const path = dir.write('m.safetensors', content);
  const error = await refusal(() => readSafetensorsHeader(path));
  expect(error.message).toContain(path);
  expect(error.reason).toBe('malformed_file');
  return error.message;
}

describe('readSafetensorsHeader', () => {
  it('finds every tensor at its place', () => {
    using dir = scratch();
    const bytes = safetensorsBytes({ a: [2, 3], empty: [0, 4], scalar: [], b: [5] });
    const tensors = readSafetensorsHeader(dir.write('m.safetensors', bytes));
    const start = bytes.length - 48;
    expect(tensors).toEqual([
      { name: 'a', type: 'F32', shape: [2, 3], byteLength: 24, fileOffset: start },
      { name: 'empty', type: 'F32', shape: [0, 4], byteLength: 0, fileOffset: start + 24 },
      { name: 'scalar', type: 'F32', shape: [], byteLength: 4, fileOffset: start + 24 },
      { name: 'b', type: 'F32', shape: [5], byteLength: 20, fileOffset: start + 28 },
    ]);
  });

  it('reads one tensor, and says when it is missing or of another type', async () => {
    using dir = scratch();
    const path = dir.write('m.safetensors', safetensorsBytes({ a: [2], b: [3] }));
    const { shape, bytes } = readTensor(path, 'b', 'F32');
    expect([shape, [...new Float32Array(bytes.buffer as ArrayBuffer)]]).toEqual([[3], [0, 1, 2]]);
    expect((await refusal(() => readTensor(path, 'c', 'F32'))).reason).toBe('missing_tensor');
    expect((await refusal(() => readTensor(path, 'a', 'I64'))).reason).toBe('unsupported_format');
  });
});

describe('readSafetensorsHeader refuses', () => {
  it('lengths that lie', async () => {
    expect(await message(Buffer.from('short'))).toContain('no safetensors header');
    expect(await message(rawSafetensors({}, Buffer.alloc(0), 2n ** 63n))).toContain('over the limit');
    expect(await message(rawSafetensors({}, Buffer.alloc(0), 25_000_001n))).toContain('over the limit');
    expect(await message(rawSafetensors({}, Buffer.alloc(0), 20_000_000n))).toContain('truncated?');
  });

  it('headers that are no table', async () => {
    for (const header of [
      '{',
      '[]',
      'null',
      '7',
      '"x"',
      '{"a":7}',
      '{"a":{}}',
      '{"a":{"dtype":"F32","shape":"x","data_offsets":[0,4]}}',
    ]) {
      await message(rawSafetensors(header, Buffer.alloc(4)));
    }
  });

  it('shapes that do not fit their bytes', async () => {
    expect(await message(rawSafetensors({ a: f32([2], 0, 4) }, Buffer.alloc(4)))).toContain('takes 8 bytes, its offsets span 4');
    expect(await message(rawSafetensors({ a: f32([2 ** 40, 2 ** 40], 0, 4) }, Buffer.alloc(4)))).toContain('tensor a');
    expect(
      await message(rawSafetensors('{"a":{"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,4]}}', Buffer.alloc(4))),
    ).toContain('tensor a');
    expect(await message(rawSafetensors({ a: f32([-1], 0, 4) }, Buffer.alloc(4)))).toContain('tensor a');
    expect(await message(rawSafetensors({ a: f32([1], 4, 0) }, Buffer.alloc(4)))).toContain('tensor a');
  });

  it('unknown types', async () => {
    expect(await message(rawSafetensors({ a: { ...f32([1], 0, 4), dtype: 'F33' } }, Buffer.alloc(4)))).toContain(
      'unknown type F33',
    );
    expect(await message(rawSafetensors({ a: { ...f32([1], 0, 4), dtype: 'constructor' } }, Buffer.alloc(4)))).toContain(
      'unknown type',
    );
  });

  it('tensors past the end, overlapping, with holes between them, or given twice', async () => {
    expect(await message(rawSafetensors({ a: f32([2], 0, 8) }, Buffer.alloc(4)))).toContain('past the end');
    expect(await message(rawSafetensors({ a: f32([2], 0, 8), b: f32([2], 4, 12) }, Buffer.alloc(12)))).toContain(
      'a and b overlap',
    );
    expect(await message(rawSafetensors({ a: f32([1], 0, 4), b: f32([1], 8, 12) }, Buffer.alloc(12)))).toContain('cover 8 of 12');
    expect(await message(rawSafetensors({ a: f32([1], 0, 4) }, Buffer.alloc(400)))).toContain('cover 4 of 400');
    const entry = (begin: number) => `"a":${JSON.stringify(f32([1], begin, begin + 4))}`;
    expect(await message(rawSafetensors(`{${entry(0)},${entry(4)}}`, Buffer.alloc(8)))).toContain('there twice');
  });

  it('what is no file, without waiting for it', async () => {
    using dir = scratch();
    mkdirSync(join(dir.path, 'folder'));
    execFileSync('mkfifo', [join(dir.path, 'pipe')]);
    for (const name of ['folder', 'pipe', 'nothing']) {
      const error = await refusal(() => readSafetensorsHeader(join(dir.path, name)));
      expect([error.reason, error.message.includes(name)]).toEqual(['file_unreadable', true]);
    }
  });
});
