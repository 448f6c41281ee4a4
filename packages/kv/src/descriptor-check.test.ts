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
