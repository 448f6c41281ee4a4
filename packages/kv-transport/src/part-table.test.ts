import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { objectTable, type KvDescriptor, PageLayout, sliceSegments } from '@causeway/kv';
import { PartBitmap } from './part-bitmap.ts';
import { PartTable } from './part-table.ts';

const descriptor: KvDescriptor = {
  version: 1,
  layers: [{ kind: 'full', kvHeads: 2, headDimK: 10, headDimV: 6 }],
  storage: { dtype: 'f32', layout: 'NHD', blockTokens: 8, shards: { count: 1, index: 0 } },
};

const layout = new PageLayout(descriptor);

describe('part table', () => {
  test('numbers every byte once, in order, and finds parts both ways', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 200 }),
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 1, max: 5000 }),
        (tokens, cut, target) => {
          const table = new PartTable(descriptor, objectTable(descriptor, tokens, target), 64 * cut);
          let end = 0;
          for (let index = 0; index < table.partCount; index++) {
            const part = table.at(index);
            expect(part.index).toBe(index);
            expect(part.end - part.length).toBe(end);
            expect(part.length).toBeLessThanOrEqual(64 * cut);
            expect(table.find(part.object, part.part)).toEqual(part);
            const runs = sliceSegments(layout.segments(table.object(part)), part.objectOffset, part.length);
            expect(runs.reduce((sum, run) => sum + run.length, 0)).toBe(part.length);
            end = part.end;
          }
          expect(end).toBe(table.totalBytes);
          expect(table.start(table.objects.length)).toBe(table.totalBytes);
          expect(table.find(table.objects.length, 0)).toBeUndefined();
          expect(table.find(0, 0xffff_ffff)).toBeUndefined();
        },
      ),
    );
  });

  test('refuses part sizes that would split numbers or explode the table', () => {
    const objects = objectTable(descriptor, 100, 1000);
    for (const bytes of [0, -64, 63, 65, 1.5, Number.NaN])
      expect(() => new PartTable(descriptor, objects, bytes)).toThrow(/parts of/);
    expect(() => new PartTable(descriptor, [], 64)).toThrow(/0 objects/);
    const huge = [{ kind: 'tokens' as const, firstLayer: 0, layerCount: 1, firstToken: 0, tokenCount: 0x7fff_ffff }];
    expect(() => new PartTable(descriptor, huge, 64)).toThrow(/1048576 parts are the limit/);
  });
});

test('a bitmap counts each part once and knows its leading run', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 70 }), fc.array(fc.nat(69)), (size, indices) => {
      const bitmap = new PartBitmap(size);
      const model = new Set<number>();
      for (const index of indices.filter((i) => i < size)) {
        bitmap.add(index);
        model.add(index);
        let leading = 0;
        while (model.has(leading)) leading++;
        expect(bitmap.count).toBe(model.size);
        expect(bitmap.contiguous).toBe(leading);
      }
      expect(bitmap.complete).toBe(model.size === size);
    }),
  );
});
