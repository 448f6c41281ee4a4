import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { blockHashes, canonicalJson, fingerprint } from './fingerprint.ts';

const print = fingerprint({ architecture: 'a', weightsHash: 'b', tokenizerHash: 'c', rope: null, layers: [] });
const base = { fingerprint: print, salt: 'tenant', blockTokens: 4, tokenIds: Uint32Array.from([1, 2, 3, 4, 5, 6, 7, 8, 9]) };

describe('block hashes', () => {
  test('follow the written formula', () => {
    const seed = createHash('sha256')
      .update(`causeway.kv.block.v1\0${canonicalJson(print)}\0tenant`)
      .digest();
    const block = Buffer.alloc(16);
    [1, 2, 3, 4].forEach((id, i) => block.writeUInt32LE(id, 4 * i));
    const expected = createHash('sha256').update(seed).update(block).digest('hex');
    expect(blockHashes(base)[0]).toBe(expected);
    expect(blockHashes(base)).toHaveLength(2);
  });

  test('are the same for a longer prompt with the same beginning and differ after the first difference', () => {
    const [a1, a2] = blockHashes(base);
    const [b1, b2] = blockHashes({ ...base, tokenIds: Uint32Array.from([1, 2, 3, 4, 5, 6, 7, 80, 9, 10, 11, 12]) });
    expect(b1).toBe(a1);
    expect(b2).not.toBe(a2);
    const [c1, c2] = blockHashes({ ...base, tokenIds: Uint32Array.from([9, 2, 3, 4, 5, 6, 7, 8]) });
    expect(c1).not.toBe(a1);
    expect(c2).not.toBe(a2);
  });

  test('are separated by tenant, model and extras', () => {
    const [plain] = blockHashes(base);
    expect(blockHashes({ ...base, salt: 'other' })[0]).not.toBe(plain);
    expect(blockHashes({ ...base, extras: Uint8Array.of(1) })[0]).not.toBe(plain);
    expect(blockHashes({ ...base, fingerprint: { ...print, rope: print.weights } })[0]).not.toBe(plain);
  });

  test('of 100,000 tokens stay cheap', () => {
    const start = performance.now();
    expect(blockHashes({ ...base, blockTokens: 16, tokenIds: new Uint32Array(100_000) })).toHaveLength(6250);
    expect(performance.now() - start).toBeLessThan(500);
  });
});

test('canonical JSON sorts keys at every depth and leaves undefined out', () => {
  expect(canonicalJson({ b: [{ y: 1, x: undefined, a: null }], a: 'é' })).toBe('{"a":"é","b":[{"a":null,"y":1}]}');
});
