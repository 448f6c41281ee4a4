import { describe, expect, it } from 'vitest';
import { readGguf } from './gguf.ts';
import { type GgufContent, ggufBytes, type GgufTensor, LLAMA_METADATA } from './testing/gguf-writer.ts';
import { refusal } from './testing/scratch.ts';

const read = (content: GgufContent) => readGguf('x.gguf', ggufBytes(content));
const f32 = (name: string, ...dims: number[]): GgufTensor => ({
  name,
  dims,
  bytes: new Uint8Array(4 * dims.reduce((product, dim) => product * dim, 1)),
});
async function message(content: GgufContent | Uint8Array): Promise<string> {
  const bytes = content instanceof Uint8Array ? content : ggufBytes(content);
  const error = await refusal(() => readGguf('x.gguf', bytes));
  expect(error.message).toContain('x.gguf');
  return `${error.reason}: ${error.message}`;
}

describe('readGguf', () => {
  it('reads values of every kind', () => {
    const { metadata } = read({
      metadata: [
        ['a', { u32: 7 }],
        ['b', { f32: 0.5 }],
        ['c', { bool: true }],
        ['d', { u64: 2n ** 60n }],
        ['e', { text: 'naïve \u{feff}' }],
        ['f', { texts: ['\u{feff}x', ''] }],
        ['g', { i32s: [-1, 5] }],
      ],
    });
    expect([...metadata]).toEqual([
      ['a', 7],
      ['b', 0.5],
      ['c', true],
      ['d', 2n ** 60n],
      ['e', 'naïve \u{feff}'],
      ['f', ['\u{feff}x', '']],
      ['g', [-1, 5]],
    ]);
  });

  it('turns dimensions to outermost first and finds each tensor at its aligned place', () => {
    const bytes = ggufBytes({ metadata: LLAMA_METADATA, tensors: [f32('one', 3), f32('two', 5, 2)] });
    const [one, two] = readGguf('x.gguf', bytes).tensors;
    expect(one).toMatchObject({ name: 'one', type: 'F32', shape: [3], byteLength: 12 });
    expect(two).toMatchObject({ name: 'two', type: 'F32', shape: [2, 5], byteLength: 40 });
    expect(two!.fileOffset - one!.fileOffset).toBe(32);
    expect(two!.fileOffset + 64).toBe(bytes.length);
  });

  it('reads version 2, which differs in nothing else', () => {
    const content: GgufContent = { metadata: LLAMA_METADATA, tensors: [f32('one', 3), f32('two', 5, 2)] };
    expect(read({ ...content, version: 2 })).toEqual(read(content));
  });

  it('honours another alignment', () => {
    const { tensors } = read({
      alignment: 128,
      metadata: [['general.alignment', { u32: 128 }]],
      tensors: [f32('one', 3), f32('two', 3)],
    });
    expect(tensors.map(({ fileOffset }) => fileOffset % 128)).toEqual([0, 0]);
    expect(tensors[1]!.fileOffset - tensors[0]!.fileOffset).toBe(128);
  });

  it.each([
    [2, 'Q4_0', 18],
    [3, 'Q4_1', 20],
    [6, 'Q5_0', 22],
    [7, 'Q5_1', 24],
    [8, 'Q8_0', 34],
    [1, 'F16', 64],
    [30, 'BF16', 64],
    [12, 'Q4_K', 18],
    [13, 'Q5_K', 22],
    [14, 'Q6_K', 26.25],
  ])('knows type %i as %s, %f bytes for 32 numbers', (type, name, size) => {
    const { tensors } = read({ tensors: [{ name: 'w', dims: [256, 2], type, bytes: new Uint8Array(16 * size) }] });
    expect(tensors[0]).toMatchObject({ type: name, shape: [2, 256], byteLength: 16 * size });
  });

  it('lists a tensor of an unknown type without a size', () => {
    const { tensors } = read({ tensors: [{ name: 'w', dims: [32], type: 77, bytes: new Uint8Array(32) }, f32('v', 2)] });
    expect(tensors.map(({ name, type, byteLength }) => [name, type, byteLength])).toEqual([
      ['w', 'ggml type 77', 0],
      ['v', 'F32', 8],
    ]);
  });
});

describe('readGguf refuses', () => {
  it('foreign files and other versions', async () => {
    expect(await message(Buffer.from('PK\u0003\u0004 a zip file, not a model'))).toContain('does not begin with "GGUF"');
    expect(await message({ version: 1 })).toMatch(/unsupported_format.*version 1.*versions 2 and 3/);
    expect(await message({ version: 0x0300_0000 })).toMatch(/unsupported_format.*big-endian/);
  });

  it('counts that the file cannot hold, before it believes them', async () => {
    expect(await message({ tensorCount: 2n ** 63n })).toContain('over the limit');
    expect(await message({ tensorCount: 900_000n })).toContain('truncated?');
    expect(await message({ keyCount: 2n ** 64n - 1n })).toContain('over the limit');
    expect(await message({ keyCount: 90_000n })).toContain('truncated?');
  });

  it('strings and lists that claim more than is left', async () => {
    const honest = ggufBytes({ metadata: [['list', { texts: ['abc', 'def'] }]] });
    const at = honest.indexOf('list') + 4 + 4 + 4;
    const lying = Buffer.from(honest);
    lying.writeBigUInt64LE(15_000_000n, at);
    expect(await message(lying)).toContain('length of list is 15000000');
    lying.writeBigUInt64LE(2n ** 63n, at);
    expect(await message(lying)).toContain('over the limit');
    const string = Buffer.from(honest);
    string.writeBigUInt64LE(15_000_000n, at + 8);
    expect(await message(string)).toContain('list needs 15000000 bytes');
  });

  it('dimensions that overflow', async () => {
    expect(await message({ tensors: [{ name: 'w', dims: [2n ** 63n] }] })).toContain('dimension 0 of w is 9223372036854775808');
    expect(await message({ tensors: [{ name: 'w', dims: [2 ** 30, 2 ** 30] }] })).toContain('too large');
    expect(await message({ tensors: [{ name: 'w', dims: [2 ** 50, 2 ** 50, 2 ** 50, 2 ** 50] }] })).toContain('too large');
    expect(await message({ tensors: [{ name: 'w', dims: [1, 1, 1, 1, 1] }] })).toContain('5 dimensions');
  });

  it('tensors past the end, out of line, overlapping or named twice', async () => {
    expect(await message({ tensors: [{ ...f32('w', 4), offset: 2n ** 40n }] })).toContain('past the end');
    expect(await message({ tensors: [{ ...f32('w', 4), offset: 2n ** 63n }] })).toContain('over the limit');
    expect(await message({ tensors: [{ ...f32('w', 4), offset: 3n }] })).toContain('not aligned');
    expect(await message({ tensors: [f32('v', 20), { ...f32('w', 20), offset: 0n }] })).toContain('v and w overlap');
    expect(await message({ tensors: [f32('w', 4), f32('w', 4)] })).toContain('w is there twice');
    expect(await message({ tensors: [{ name: 'w', dims: [33], type: 8, bytes: new Uint8Array(64) }] })).toContain(
      'whole Q8_0 blocks',
    );
  });

  it('keys named twice and impossible alignments', async () => {
    expect(
      await message({
        metadata: [
          ['k', { u32: 1 }],
          ['k', { u32: 2 }],
        ],
      }),
    ).toContain('k is there twice');
    for (const value of [{ u32: 0 }, { u32: 24 }, { u32: 2 ** 20 }, { text: '32' }, { u64: 32n }]) {
      expect(await message({ metadata: [['general.alignment', value]] })).toContain('alignment');
    }
  });

  it('a file that ends anywhere in its header or data', async () => {
    const whole = ggufBytes({ metadata: LLAMA_METADATA, tensors: [f32('v', 20), f32('w', 8)] });
    for (let end = 0; end < whole.length; end++) {
      expect(await message(whole.subarray(0, end))).toContain('malformed_file');
    }
    expect(readGguf('x.gguf', whole).tensors).toHaveLength(2);
  });
});
