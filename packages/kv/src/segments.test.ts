import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { DTYPE_BYTES, type KvDescriptor, layerSections, type LayerGeometry, pageBytes, tokenBytes } from './descriptor.ts';
import { objectTable } from './object-table.ts';
import { rangeBytes, segments, sliceSegments } from './segments.ts';

const layer: fc.Arbitrary<LayerGeometry> = fc.oneof(
  fc.record({
    kind: fc.constant('full' as const),
    kvHeads: fc.integer({ min: 1, max: 3 }),
    headDimK: fc.integer({ min: 1, max: 5 }),
    headDimV: fc.integer({ min: 1, max: 5 }),
  }),
  fc.record({ kind: fc.constant('latent' as const), rank: fc.integer({ min: 1, max: 6 }), ropeDim: fc.nat(3) }),
);
const descriptorOf = fc.record({
  version: fc.constant(1 as const),
  layers: fc.array(layer, { minLength: 1, maxLength: 4 }),
  storage: fc.record({
    dtype: fc.constantFrom('f32' as const, 'f16' as const, 'bf16' as const),
    layout: fc.constant('NHD' as const),
    blockTokens: fc.integer({ min: 1, max: 7 }),
    shards: fc.constant({ count: 1, index: 0 }),
  }),
});

/** Straight from the definition of the wire form: one byte offset per byte, no cleverness. */
function naive(
  descriptor: KvDescriptor,
  range: { firstLayer: number; layerCount: number; firstToken: number; tokenCount: number },
): string[] {
  const { blockTokens, dtype } = descriptor.storage;
  const bytes: string[] = [];
  let base = 0;
  for (const [index, geometry] of descriptor.layers.entries()) {
    for (const section of layerSections(geometry)) {
      const size = section.width * DTYPE_BYTES[dtype];
      if (index >= range.firstLayer && index < range.firstLayer + range.layerCount) {
        for (let token = range.firstToken; token < range.firstToken + range.tokenCount; token++) {
          for (let byte = 0; byte < size; byte++) {
            bytes.push(`${Math.floor(token / blockTokens)}:${base + (token % blockTokens) * size + byte}`);
          }
        }
      }
      base += size * blockTokens;
    }
  }
  return bytes;
}

function spread(runs: readonly { page: number; offset: number; length: number }[]): string[] {
  return runs.flatMap((run) => Array.from({ length: run.length }, (_, i) => `${run.page}:${run.offset + i}`));
}

describe('segments', () => {
  test('list exactly the bytes of the object, in wire order', () => {
    fc.assert(
      fc.property(
        descriptorOf,
        fc.nat(20),
        fc.integer({ min: 1, max: 20 }),
        fc.nat(3),
        fc.nat(3),
        (descriptor, firstToken, tokenCount, a, b) => {
          const firstLayer = a % descriptor.layers.length;
          const layerCount = 1 + (b % (descriptor.layers.length - firstLayer));
          const range = { firstLayer, layerCount, firstToken, tokenCount };
          const runs = segments(descriptor, range);
          expect(spread(runs)).toEqual(naive(descriptor, range));
          expect(rangeBytes(descriptor, range)).toBe(spread(runs).length);
        },
      ),
    );
  });

  test('slices are the same bytes', () => {
    fc.assert(
      fc.property(
        descriptorOf,
        fc.integer({ min: 1, max: 20 }),
        fc.nat(400),
        fc.nat(400),
        (descriptor, tokenCount, start, length) => {
          const runs = segments(descriptor, { firstLayer: 0, layerCount: descriptor.layers.length, firstToken: 0, tokenCount });
          expect(spread(sliceSegments(runs, start, length))).toEqual(spread(runs).slice(start, start + length));
        },
      ),
    );
  });

  test('a whole page is one run', () => {
    fc.assert(
      fc.property(descriptorOf, fc.nat(5), (descriptor, page) => {
        const { blockTokens } = descriptor.storage;
        const range = {
          firstLayer: 0,
          layerCount: descriptor.layers.length,
          firstToken: page * blockTokens,
          tokenCount: blockTokens,
        };
        expect(segments(descriptor, range)).toEqual([{ page, offset: 0, length: pageBytes(descriptor) }]);
      }),
    );
  });

  test('the object table covers every token once, in whole pages', () => {
    fc.assert(
      fc.property(
        descriptorOf,
        fc.integer({ min: 1, max: 500 }),
        fc.integer({ min: 1, max: 2000 }),
        (descriptor, tokens, target) => {
          const table = objectTable(descriptor, tokens, target);
          let next = 0;
          for (const object of table) {
            expect(object.firstToken).toBe(next);
            expect(object.firstToken % descriptor.storage.blockTokens).toBe(0);
            next += object.tokenCount;
          }
          expect(next).toBe(tokens);
          expect(table.reduce((sum, object) => sum + rangeBytes(descriptor, object), 0)).toBe(tokens * tokenBytes(descriptor));
        },
      ),
    );
  });

  test.each([
    [{ firstLayer: 0, layerCount: 9, firstToken: 0, tokenCount: 1 }, /layers/],
    [{ firstLayer: 0, layerCount: 1, firstToken: -1, tokenCount: 1 }, /firstToken/],
    [{ firstLayer: 0, layerCount: 1, firstToken: 0, tokenCount: 0 }, /tokenCount/],
    [{ firstLayer: 0, layerCount: 0, firstToken: 0, tokenCount: 1 }, /layerCount/],
    [{ firstLayer: 0, layerCount: 1, firstToken: 0, tokenCount: 2 ** 31 }, /tokenCount/],
  ])('refuses the range %o', (range, message) => {
    const descriptor: KvDescriptor = {
      version: 1,
      layers: [{ kind: 'latent', rank: 8, ropeDim: 0 }],
      storage: { dtype: 'f32', layout: 'NHD', blockTokens: 4, shards: { count: 1, index: 0 } },
    };
    expect(() => segments(descriptor, range)).toThrow(message);
  });
});
