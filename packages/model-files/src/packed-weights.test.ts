/** Weights of compressed-tensors' format pack-quantized in real files. */
import { describe, expect, it } from 'vitest';
import { openCheckpoint } from './checkpoint.ts';
import { withPackedWeights } from './packed-weights.ts';
import { type HeaderEntry, rawSafetensors } from './testing/safetensors-writer.ts';
import { refusal, scratch } from './testing/scratch.ts';

const NAME = 'model.layers.1.mlp.experts.0.up_proj.weight';
const [ROWS, COLUMNS] = [3, 64];

interface Piece {
  dtype: string;
  shape: readonly number[];
  bytes: Uint8Array;
}

const noise = (count: number): Uint8Array => Uint8Array.from({ length: count }, (_, i) => (i * 167 + 13) % 251);
const shapeBytes = (rows: number, columns: number): Uint8Array =>
  new Uint8Array(BigInt64Array.of(BigInt(rows), BigInt(columns)).buffer);

const GOOD: Readonly<Record<string, Piece>> = {
  [`${NAME}_packed`]: { dtype: 'I32', shape: [ROWS, COLUMNS / 8], bytes: noise((ROWS * COLUMNS) / 2) },
  [`${NAME}_scale`]: { dtype: 'BF16', shape: [ROWS, COLUMNS / 32], bytes: noise((ROWS * COLUMNS) / 16) },
  [`${NAME}_shape`]: { dtype: 'I64', shape: [2], bytes: shapeBytes(ROWS, COLUMNS) },
  'model.norm.weight': { dtype: 'BF16', shape: [4], bytes: noise(8) },
};

/** A folder with one file of these tensors. */
function folder(pieces: Readonly<Record<string, Piece>>): ReturnType<typeof scratch> {
  const dir = scratch();
  const entries: Record<string, HeaderEntry> = {};
  let end = 0;
  for (const [name, { dtype, shape, bytes }] of Object.entries(pieces)) {
    entries[name] = { dtype, shape, data_offsets: [end, end + bytes.byteLength] };
    end += bytes.byteLength;
  }
  dir.write('config.json', { model_type: 'kimi_k2' });
  dir.write('model.safetensors', rawSafetensors(entries, Buffer.concat(Object.values(pieces).map(({ bytes }) => bytes))));
  return dir;
}

describe('packed weights', () => {
  it('are one tensor each, whose bytes are the codes in the file; the others stay as they are', async () => {
    using dir = folder(GOOD);
    using checkpoint = await openCheckpoint(dir.path);
    const named = withPackedWeights(checkpoint);
    expect([...named.tensors.keys()].sort()).toEqual([`${NAME}`, `${NAME}_scale`, `${NAME}_shape`, 'model.norm.weight'].sort());
    expect(named.tensors.get(NAME)).toEqual({ name: NAME, type: 'INT4_G32', shape: [ROWS, COLUMNS], byteLength: 96 });
    for (const [name, file] of [
      [NAME, `${NAME}_packed`],
      [`${NAME}_scale`, `${NAME}_scale`],
      ['model.norm.weight', 'model.norm.weight'],
    ] as const) {
      const { buffer, offset, byteLength } = named.data(name);
      expect(Buffer.from(buffer.bytes(offset, byteLength))).toEqual(Buffer.from(GOOD[file]?.bytes ?? []));
    }
  });

  it('of a checkpoint without any are the checkpoint itself', async () => {
    using dir = folder({ 'model.norm.weight': GOOD['model.norm.weight'] as Piece });
    using checkpoint = await openCheckpoint(dir.path);
    expect(withPackedWeights(checkpoint)).toBe(checkpoint);
  });

  it.each<[string, Record<string, Piece | undefined>, RegExp]>([
    [
      'with zero points',
      { [`${NAME}_zero_point`]: { dtype: 'I32', shape: [1], bytes: noise(4) } },
      /^pack-quantized with zero points$/,
    ],
    [
      'with reordered inputs',
      { [`${NAME}_g_idx`]: { dtype: 'I32', shape: [1], bytes: noise(4) } },
      /^pack-quantized with reordered/,
    ],
    ['without scales', { [`${NAME}_scale`]: undefined }, /scales in no tensor/],
    [
      'with scales of 64 inputs',
      { [`${NAME}_scale`]: { dtype: 'BF16', shape: [3, 1], bytes: noise(6) } },
      /\[3, 8\] with scales \[3, 1\]/,
    ],
    ['of 4-bit floats', { [`${NAME}_packed`]: { dtype: 'U8', shape: [3, 32], bytes: noise(96) } }, /in U8 of 2 dimensions/],
  ])('%s have a type that says so', async (_, change, type) => {
    const pieces = Object.fromEntries(Object.entries({ ...GOOD, ...change }).filter(([, piece]) => piece !== undefined));
    using dir = folder(pieces as Record<string, Piece>);
    using checkpoint = await openCheckpoint(dir.path);
    expect(withPackedWeights(checkpoint).tensors.get(NAME)?.type).toMatch(type);
  });

  it.each<[string, Piece | undefined, string, RegExp]>([
    [
      'says another shape',
      { dtype: 'I64', shape: [2], bytes: shapeBytes(3, 32) },
      'malformed_file',
      /says \[3, 32\]; .* 4 bits for \[3, 64\]/,
    ],
    ['is of another type', { dtype: 'I32', shape: [2], bytes: noise(8) }, 'malformed_file', /is I32 of 8 bytes, not two I64/],
    ['is missing', undefined, 'missing_tensor', /weight_shape is missing/],
  ])('whose shape tensor %s are refused when they are read', async (_, shape, reason, message) => {
    const { [`${NAME}_shape`]: _good, ...rest } = GOOD;
    using dir = folder(shape === undefined ? rest : { ...rest, [`${NAME}_shape`]: shape });
    using checkpoint = await openCheckpoint(dir.path);
    const error = await refusal(() => withPackedWeights(checkpoint).data(NAME));
    expect([error.reason, error.message]).toEqual([reason, expect.stringMatching(message)]);
  });
});
