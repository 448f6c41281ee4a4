import { describe, expect, test } from 'vitest';
import type { KvDescriptor } from './descriptor.ts';
import { compareDescriptors, compareFingerprints, validateDescriptor, validateFingerprint } from './descriptor-check.ts';
import { fingerprint } from './fingerprint.ts';

const descriptor: KvDescriptor = {
  version: 1,
  layers: [
    { kind: 'full', kvHeads: 3, headDimK: 64, headDimV: 64 },
    { kind: 'latent', rank: 32, ropeDim: 8 },
  ],
  storage: { dtype: 'bf16', layout: 'NHD', blockTokens: 16, shards: { count: 1, index: 0 } },
};
const inputs = {
  architecture: 'llama',
  weightsHash: 'w',
  tokenizerHash: 't',
  rope: { theta: 1e4, type: 'default' },
  layers: descriptor.layers,
};

describe('descriptors', () => {
  test('survive JSON', () => {
    expect(validateDescriptor(JSON.parse(JSON.stringify(descriptor)))).toEqual(descriptor);
  });

  test.each([
    ['storage.dtype', { ...descriptor, storage: { ...descriptor.storage, dtype: 'f8' } }],
    ['storage.blockTokens', { ...descriptor, storage: { ...descriptor.storage, blockTokens: 0 } }],
    ['layers', { ...descriptor, layers: [] }],
    ['layers.0.kvHeads', { ...descriptor, layers: [{ kind: 'full', kvHeads: 1e9, headDimK: 1, headDimV: 1 }] }],
    ['storage', { ...descriptor, storage: { ...descriptor.storage, shards: { count: 1, index: 1 } } }],
  ])('names the bad field %s', (field, value) => {
    expect(() => validateDescriptor(value)).toThrow(
      expect.objectContaining({ reason: 'descriptor_mismatch', message: expect.stringContaining(field) }),
    );
  });

  const hybrid: KvDescriptor = {
    ...descriptor,
    layers: [
      { kind: 'full', kvHeads: 3, headDimK: 64, headDimV: 64, window: 128 },
      { kind: 'latent', rank: 32, ropeDim: 8, entries: [{ name: 'kv', ratio: 4, width: 40 }] },
      { kind: 'none', states: [{ name: 'S', dtype: 'f32', shape: [4, 16, 16] }] },
    ],
  };

  test('with windows, entries and states survive JSON', () => {
    expect(validateDescriptor(JSON.parse(JSON.stringify(hybrid)))).toEqual(hybrid);
  });

  const latent = { kind: 'latent', rank: 32, ropeDim: 8 };
  const withEntries = (...entries: unknown[]) => [{ ...latent, entries }];
  const withStates = (...states: unknown[]) => [latent, { kind: 'none', states }];
  test.each<[string, unknown[], RegExp]>([
    ['a kind that there is not', [{ kind: 'fractal' }], /layers\.0\.kind/],
    ['a window of 0', [{ ...latent, window: 0 }], /layers\.0\.window/],
    ['a window of 2^31', [{ ...latent, window: 2 ** 31 }], /layers\.0\.window/],
    ['a window of nothing', [latent, { kind: 'none', window: 4 }], /layers\.1/],
    ['nothing that grows', [{ ...latent, window: 4 }], /pages would be empty/],
    ['ratio 0', withEntries({ name: 'kv', ratio: 0, width: 4 }), /layers\.0\.entries\.0\.ratio/],
    [
      'a ratio across blocks',
      withEntries({ name: 'kv', ratio: 3, width: 4 }),
      /blocks of 16 tokens don't hold whole entries "kv"/,
    ],
    ['a ratio wider than a block', withEntries({ name: 'kv', ratio: 32, width: 4 }), /don't hold whole entries/],
    ['a width of 2^31', withEntries({ name: 'kv', ratio: 4, width: 2 ** 31 }), /layers\.0\.entries\.0\.width/],
    [
      'entries of one name',
      withEntries({ name: 'a', ratio: 4, width: 4 }, { name: 'a', ratio: 8, width: 4 }),
      /layers\.0\.entries: two entries of one name/,
    ],
    ['a long name', withEntries({ name: 'x'.repeat(65), ratio: 4, width: 4 }), /layers\.0\.entries\.0\.name/],
    ['a strange name', withEntries({ name: 'a\nb', ratio: 4, width: 4 }), /layers\.0\.entries\.0\.name: must be letters/],
    ['no dimensions', withStates({ name: 'S', dtype: 'f32', shape: [] }), /layers\.1\.states\.0\.shape/],
    ['nine dimensions', withStates({ name: 'S', dtype: 'f32', shape: Array(9).fill(1) }), /layers\.1\.states\.0\.shape/],
    ['a dimension of 0', withStates({ name: 'S', dtype: 'f32', shape: [4, 0] }), /layers\.1\.states\.0\.shape\.1/],
    ['a dimension of 2^31', withStates({ name: 'S', dtype: 'f32', shape: [2 ** 31] }), /layers\.1\.states\.0\.shape\.0/],
    [
      'a product that overflows',
      withStates({ name: 'S', dtype: 'f32', shape: Array(8).fill(0x7fff_ffff) }),
      /layers\.1\.states\.0\.shape: must be a state of at most/,
    ],
    [
      'too much together',
      Array.from({ length: 8 }, () => ({ ...latent, states: [{ name: 'S', dtype: 'f32', shape: [1 << 28] }] })),
      /windows and states would take 8589934592 bytes a sequence/,
    ],
    ['a type that there is not', withStates({ name: 'S', dtype: 'f8', shape: [4] }), /layers\.1\.states\.0\.dtype/],
    [
      'states of one name',
      withStates({ name: 'S', dtype: 'f32', shape: [4] }, { name: 'S', dtype: 'f16', shape: [4] }),
      /layers\.1\.states: two states of one name/,
    ],
  ])('with %s are refused', (_, layers, message) => {
    const read = () => validateDescriptor({ ...descriptor, layers });
    expect(read).toThrow(expect.objectContaining({ reason: 'descriptor_mismatch' }));
    expect(read).toThrow(message);
  });

  test.each([undefined, null, 7, 'x', [], {}])('refuses %o', (value) => {
    expect(() => validateDescriptor(value)).toThrow(expect.objectContaining({ name: 'ServiceError' }));
  });

  test('of a newer version are refused naming both versions', () => {
    expect(() => validateDescriptor({ ...descriptor, version: 9 })).toThrow(
      expect.objectContaining({ reason: 'newer_version', message: expect.stringMatching(/9.*1/) }),
    );
  });

  test('that differ say where and how', () => {
    compareDescriptors(descriptor, structuredClone(descriptor));
    const other = structuredClone(descriptor) as { layers: { kvHeads?: number }[] } & KvDescriptor;
    (other.layers[0] as { kvHeads: number }).kvHeads = 4;
    expect(() => compareDescriptors(descriptor, other)).toThrow('layers[0].kvHeads is 3 here, 4 there');
    expect(() => compareDescriptors(descriptor, { ...descriptor, layers: descriptor.layers.slice(1) })).toThrow(
      'layers.length is 2 here, 1 there',
    );
    expect(() => compareDescriptors(descriptor, { ...descriptor, storage: { ...descriptor.storage, dtype: 'f32' } })).toThrow(
      'storage.dtype is bf16 here, f32 there',
    );
  });
});

describe('fingerprints', () => {
  test('do not depend on key order', () => {
    expect(fingerprint({ ...inputs, rope: { type: 'default', theta: 1e4 } })).toEqual(fingerprint(inputs));
    expect(validateFingerprint(fingerprint(inputs))).toEqual(fingerprint(inputs));
  });

  test.each([
    ['architecture', { architecture: 'deepseek_v3' }],
    ['weights', { weightsHash: 'v' }],
    ['tokenizer', { tokenizerHash: 'u' }],
    ['rope', { rope: { theta: 5e5, type: 'default' } }],
    ['geometry', { layers: descriptor.layers.slice(1) }],
  ])('that differ in %s say so', (field, change) => {
    expect(() => compareFingerprints(fingerprint(inputs), fingerprint({ ...inputs, ...change }))).toThrow(
      expect.objectContaining({
        reason: 'fingerprint_mismatch',
        message: expect.stringMatching(new RegExp(`model: ${field} \\(`)),
      }),
    );
  });

  test('of bad form are refused', () => {
    expect(() => validateFingerprint({ ...fingerprint(inputs), rope: 'ABC' })).toThrow(/rope/);
    expect(() => validateFingerprint(undefined)).toThrow(expect.objectContaining({ reason: 'fingerprint_mismatch' }));
  });
});
