import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { KvDescriptor } from './descriptor.ts';
import { layerGroups } from './layer-groups.ts';
import { type ComputeOrder, MAX_OBJECTS, objectTable } from './object-table.ts';
import { type KvObject, ObjectGeometry } from './kv-object.ts';
import { pageBytes, tokenBytes } from './page-size.ts';

function latents(layers: number, blockTokens: number): KvDescriptor {
  return {
    version: 1,
    layers: Array.from({ length: layers }, (_, i) => ({ kind: 'latent' as const, rank: 8 * (1 + (i % 3)), ropeDim: 4 })),
    storage: { dtype: 'bf16', layout: 'NHD', blockTokens, shards: { count: 1, index: 0 } },
  };
}

const anyCase = fc
  .record({
    layers: fc.integer({ min: 1, max: 7 }),
    groups: fc.integer({ min: 1, max: 7 }),
    blockTokens: fc.integer({ min: 1, max: 9 }),
    tokens: fc.integer({ min: 1, max: 300 }),
    chunk: fc.integer({ min: 1, max: 80 }),
    target: fc.integer({ min: 1, max: 4000 }),
  })
  .map((o) => ({ ...o, groups: Math.min(o.groups, o.layers) }));

function orderOf(o: { layers: number; groups: number; tokens: number; chunk: number }): ComputeOrder {
  const chunkEnds = Array.from({ length: Math.ceil(o.tokens / o.chunk) }, (_, i) => Math.min(o.tokens, (i + 1) * o.chunk));
  return { chunkEnds, groups: layerGroups(o.layers, o.groups) };
}

describe('layer groups', () => {
  test('hold every layer once, in order, as evenly as can be', () => {
    expect(layerGroups(5, 3)).toEqual([
      { firstLayer: 0, layerCount: 1 },
      { firstLayer: 1, layerCount: 2 },
      { firstLayer: 3, layerCount: 2 },
    ]);
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 100 }), fc.integer({ min: 1, max: 100 }), (layers, groups) => {
        fc.pre(groups <= layers);
        const cut = layerGroups(layers, groups);
        expect(cut.map(({ firstLayer }) => firstLayer)).toEqual(
          cut.map((_, i) => cut.slice(0, i).reduce((sum, { layerCount }) => sum + layerCount, 0)),
        );
        const counts = cut.map(({ layerCount }) => layerCount);
        expect(counts.reduce((sum, count) => sum + count, 0)).toBe(layers);
        expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1);
      }),
    );
  });

  test.each([0, -1, 6, 1.5, Number.NaN])('there are no %s of five layers', (groups) => {
    expect(() => layerGroups(5, groups)).toThrow(/5 layers can't be cut into/);
  });
});

describe('an object table', () => {
  test('holds every token of every layer once, whatever the order', () => {
    fc.assert(
      fc.property(anyCase, (o) => {
        const descriptor = latents(o.layers, o.blockTokens);
        const geometry = new ObjectGeometry(descriptor);
        const table = tokensOf(objectTable(descriptor, o.tokens, o.target, orderOf(o)));
        const next = Array.from({ length: o.layers }, () => 0);
        for (const object of table) {
          for (let layer = object.firstLayer; layer < object.firstLayer + object.layerCount; layer++) {
            expect(object.firstToken).toBe(next[layer]);
            next[layer] = object.firstToken + object.tokenCount;
          }
          // Whole pages, but for the last tokens.
          expect(object.firstToken % o.blockTokens).toBe(0);
          const end = object.firstToken + object.tokenCount;
          expect(end === o.tokens || end % o.blockTokens === 0).toBe(true);
          const onePage = (geometry.bytes(object) / object.tokenCount) * o.blockTokens;
          expect(geometry.bytes(object)).toBeLessThanOrEqual(Math.max(o.target, onePage));
        }
        expect(new Set(next)).toEqual(new Set([o.tokens]));
        expect(table.reduce((sum, object) => sum + geometry.bytes(object), 0)).toBe(o.tokens * tokenBytes(descriptor));
      }),
    );
  });

  test('lets a sender that computes in its order send all whole blocks that it has', () => {
    fc.assert(
      fc.property(anyCase, (o) => {
        const order = orderOf(o);
        if (order.groups.length === 1) return;
        const table = tokensOf(objectTable(latents(o.layers, o.blockTokens), o.tokens, o.target, order));
        let sent = 0;
        for (const chunkEnd of order.chunkEnds) {
          const whole = chunkEnd === o.tokens ? chunkEnd : chunkEnd - (chunkEnd % o.blockTokens);
          for (const { firstLayer, layerCount } of order.groups) {
            const computed = (object: (typeof table)[number]): boolean => {
              const end = object.firstLayer < firstLayer + layerCount ? whole : lastWhole;
              return object.firstToken + object.tokenCount <= end;
            };
            const lastWhole = lastEnd(order, chunkEnd, o.blockTokens);
            while (sent < table.length && computed(table[sent]!)) sent++;
            // Nothing that is computed waits behind something that isn't.
            expect(table.slice(sent).some(computed)).toBe(false);
          }
        }
        expect(sent).toBe(table.length);
      }),
    );
  });

  test('of one group is that of no order', () => {
    const descriptor = latents(4, 16);
    const order = { chunkEnds: [37, 74, 100], groups: layerGroups(4, 1) };
    expect(objectTable(descriptor, 100, 4000, order)).toEqual(objectTable(descriptor, 100, 4000));
  });

  test('leaves layers together where apart they would be too many objects', () => {
    const descriptor = latents(60, 1);
    const tokens = 2 * MAX_OBJECTS;
    const order = { chunkEnds: Array.from({ length: tokens / 4 }, (_, i) => 4 * (i + 1)), groups: layerGroups(60, 3) };
    const table = tokensOf(objectTable(descriptor, tokens, 64 * pageBytes(descriptor), order));
    expect(table.length).toBe(tokens / 64);
    expect(new Set(table.map(({ layerCount }) => layerCount))).toEqual(new Set([60]));
  });
});

/** Whole blocks computed before the chunk that ends here. */
function lastEnd(order: ComputeOrder, chunkEnd: number, blockTokens: number): number {
  const before = order.chunkEnds[order.chunkEnds.indexOf(chunkEnd) - 1] ?? 0;
  return before - (before % blockTokens);
}

type TokensObject = KvObject & { kind: 'tokens' };

/** A table that has nothing else. */
function tokensOf(table: readonly KvObject[]): TokensObject[] {
  return table.map((object) => (object.kind === 'tokens' ? object : expect.fail(`${object.kind} in a model without it`)));
}
