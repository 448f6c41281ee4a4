import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { DTYPE_BYTES, type KvDescriptor, layerSections, type LayerGeometry } from './descriptor.ts';
import { pageBytes, tokenBytes } from './page-size.ts';
import { validateDescriptor } from './descriptor-check.ts';
import { type KvObject, ObjectGeometry } from './kv-object.ts';
import { layerGroups } from './layer-groups.ts';
import { objectTable } from './object-table.ts';
import { PageLayout, sliceSegments } from './page-layout.ts';
import { checkCover } from './table-cover.ts';

const full = fc.record({
  kind: fc.constant('full' as const),
  kvHeads: fc.integer({ min: 1, max: 3 }),
  headDimK: fc.integer({ min: 1, max: 5 }),
  headDimV: fc.integer({ min: 1, max: 5 }),
});
const latent = fc.record({ kind: fc.constant('latent' as const), rank: fc.integer({ min: 1, max: 6 }), ropeDim: fc.nat(3) });
const states = fc
  .array(
    fc.record({
      dtype: fc.constantFrom('f32' as const, 'bf16' as const),
      shape: fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 3 }),
    }),
    { minLength: 1, maxLength: 2 },
  )
  .map((list) => list.map((state, i) => ({ name: `s${i}`, ...state })));
const entries = fc
  .array(fc.record({ ratio: fc.constantFrom(1, 2, 4), width: fc.integer({ min: 1, max: 5 }) }), { minLength: 1, maxLength: 3 })
  .map((list) => list.map((entry, i) => ({ name: `e${i}`, ...entry })));

const plain: fc.Arbitrary<LayerGeometry> = fc.oneof(full, latent);
const hybrid: fc.Arbitrary<LayerGeometry> = fc.oneof(
  plain,
  fc.tuple(plain, fc.integer({ min: 1, max: 9 })).map(([layer, window]) => ({ ...layer, window })),
  fc.tuple(plain, entries).map(([layer, own]) => ({ ...layer, entries: own })),
  states.map((own) => ({ kind: 'none' as const, states: own })),
  fc
    .tuple(latent, fc.integer({ min: 1, max: 9 }), entries, states)
    .map(([layer, window, e, s]) => ({ ...layer, window, entries: e, states: s })),
);
const descriptorOf = (layer: fc.Arbitrary<LayerGeometry>): fc.Arbitrary<KvDescriptor> =>
  fc
    .record({
      version: fc.constant(1 as const),
      layers: fc.array(layer, { minLength: 1, maxLength: 4 }),
      storage: fc.record({
        dtype: fc.constantFrom('f32' as const, 'f16' as const, 'bf16' as const),
        layout: fc.constant('NHD' as const),
        blockTokens: fc.constantFrom(4, 8, 12),
        shards: fc.constant({ count: 1, index: 0 }),
      }),
    })
    // Pages need something that grows.
    .map((descriptor) => ({ ...descriptor, layers: [...descriptor.layers, { kind: 'latent' as const, rank: 2, ropeDim: 1 }] }));

/** Straight from docs/wire.md: the place of every byte of an object, one by one, as `page:offset` of the sequence. */
function naive({ layers, storage }: KvDescriptor, object: KvObject): string[] {
  const size = DTYPE_BYTES[storage.dtype];
  const fixedPlaces: { window?: number; states: Record<string, number> }[] = [];
  let fixed = 0;
  for (const layer of layers) {
    const places: { window?: number; states: Record<string, number> } = { states: {} };
    const align = (): number => (fixed = Math.ceil(fixed / 64) * 64);
    if (layer.window !== undefined) {
      places.window = align();
      fixed += layer.window * layerSections(layer).reduce((sum, { width }) => sum + width, 0) * size;
    }
    for (const state of layer.states ?? []) {
      places.states[state.name] = align();
      fixed += state.shape.reduce((a, b) => a * b, 1) * DTYPE_BYTES[state.dtype];
    }
    fixedPlaces.push(places);
  }
  const page = pageBytes({ layers, storage });
  const fixedPages = Math.ceil((Math.ceil(fixed / 64) * 64) / page);
  const bytes: string[] = [];
  const inArea = (at: number, length: number): void => {
    for (let i = at; i < at + length; i++) bytes.push(`${Math.floor(i / page)}:${i % page}`);
  };
  if (object.kind === 'window' || object.kind === 'state') {
    const layer = layers[object.layer]!;
    const place = fixedPlaces[object.layer]!;
    if (object.kind === 'state') {
      const { shape, dtype } = layer.states!.find(({ name }) => name === object.name)!;
      inArea(place.states[object.name]!, shape.reduce((a, b) => a * b, 1) * DTYPE_BYTES[dtype]);
      return bytes;
    }
    let at = place.window!;
    for (const { width } of layerSections(layer)) {
      for (let token = object.firstToken; token < object.firstToken + object.tokenCount; token++) {
        inArea(at + (token % layer.window!) * width * size, width * size);
      }
      at += layer.window! * width * size;
    }
    return bytes;
  }
  let base = 0;
  for (const [index, layer] of layers.entries()) {
    const tokens = layer.window === undefined ? layerSections(layer).map(({ width }) => ({ width, ratio: 1, entry: false })) : [];
    for (const section of [...tokens, ...(layer.entries ?? []).map((e) => ({ ...e, entry: true }))]) {
      const perPage = storage.blockTokens / section.ratio;
      const row = section.width * size;
      const wanted =
        object.kind === 'tokens'
          ? !section.entry && index >= object.firstLayer && index < object.firstLayer + object.layerCount
          : section.entry && index === object.layer && section.ratio === object.ratio;
      const [first, count] =
        object.kind === 'tokens' ? [object.firstToken, object.tokenCount] : [object.firstEntry, object.entryCount];
      for (let item = first; wanted && item < first + count; item++) {
        for (let byte = 0; byte < row; byte++) {
          bytes.push(`${fixedPages + Math.floor(item / perPage)}:${base + (item % perPage) * row + byte}`);
        }
      }
      base += perPage * row;
    }
  }
  return bytes;
}

function spread(runs: readonly { page: number; offset: number; length: number }[]): string[] {
  return runs.flatMap((run) => Array.from({ length: run.length }, (_, i) => `${run.page}:${run.offset + i}`));
}

const tokens = (firstLayer: number, layerCount: number, firstToken: number, tokenCount: number) =>
  ({ kind: 'tokens', firstLayer, layerCount, firstToken, tokenCount }) as const;

describe('a page layout', () => {
  test('lists exactly the bytes of each object, in wire order, and no byte in two objects', () => {
    fc.assert(
      fc.property(
        descriptorOf(hybrid),
        fc.integer({ min: 1, max: 60 }),
        fc.integer({ min: 1, max: 500 }),
        fc.integer({ min: 1, max: 3 }),
        (descriptor, count, target, groups) => {
          validateDescriptor(descriptor);
          const geometry = new ObjectGeometry(descriptor);
          const layout = new PageLayout(descriptor);
          const chunkEnds = Array.from({ length: Math.ceil(count / 7) }, (_, i) => Math.min(count, (i + 1) * 7));
          const order = { chunkEnds, groups: layerGroups(descriptor.layers.length, Math.min(groups, descriptor.layers.length)) };
          const table = objectTable(descriptor, count, target, order);
          checkCover(descriptor, table, count);
          const taken = new Set<string>();
          for (const object of table) {
            const runs = layout.segments(object);
            const bytes = spread(runs);
            expect(bytes).toEqual(naive(descriptor, object));
            expect(geometry.bytes(object)).toBe(bytes.length);
            for (const byte of bytes) expect(taken.has(byte)).toBe(false);
            for (const byte of bytes) taken.add(byte);
            for (const run of runs) {
              expect(run.page).toBeLessThan(layout.pages(count));
              expect(run.offset + run.length).toBeLessThanOrEqual(pageBytes(descriptor));
            }
          }
        },
      ),
    );
  });

  test('slices of a list of runs are the same bytes', () => {
    fc.assert(
      fc.property(
        descriptorOf(plain),
        fc.integer({ min: 1, max: 20 }),
        fc.nat(400),
        fc.nat(400),
        (descriptor, tokenCount, start, length) => {
          const runs = new PageLayout(descriptor).segments(tokens(0, descriptor.layers.length, 0, tokenCount));
          expect(spread(sliceSegments(runs, start, length))).toEqual(spread(runs).slice(start, start + length));
        },
      ),
    );
  });

  test('has a whole page as one run', () => {
    fc.assert(
      fc.property(descriptorOf(plain), fc.nat(5), (descriptor, page) => {
        const { blockTokens } = descriptor.storage;
        const object = tokens(0, descriptor.layers.length, page * blockTokens, blockTokens);
        expect(new PageLayout(descriptor).segments(object)).toEqual([{ page, offset: 0, length: pageBytes(descriptor) }]);
      }),
    );
  });

  test('the table of a model that keeps only tokens covers every token once, in whole pages', () => {
    fc.assert(
      fc.property(
        descriptorOf(plain),
        fc.integer({ min: 1, max: 500 }),
        fc.integer({ min: 1, max: 2000 }),
        (descriptor, count, target) => {
          const geometry = new ObjectGeometry(descriptor);
          const table = objectTable(descriptor, count, target);
          let next = 0;
          for (const object of table) {
            if (object.kind !== 'tokens') expect.fail(object.kind);
            expect(object.firstToken).toBe(next);
            expect(object.firstToken % descriptor.storage.blockTokens).toBe(0);
            next += object.tokenCount;
          }
          expect(next).toBe(count);
          expect(table.reduce((sum, object) => sum + geometry.bytes(object), 0)).toBe(count * tokenBytes(descriptor));
        },
      ),
    );
  });
});

/** DeepSeek-V4 in small, and a linear layer as Kimi Linear's. */
const HYBRID: KvDescriptor = {
  version: 1,
  layers: [
    {
      kind: 'latent',
      rank: 12,
      ropeDim: 4,
      window: 8,
      entries: [
        { name: 'kv', ratio: 4, width: 16 },
        { name: 'indexer', ratio: 4, width: 4 },
      ],
      states: [{ name: 'pending', dtype: 'f32', shape: [8, 32] }],
    },
    {
      kind: 'none',
      states: [
        { name: 'S', dtype: 'f32', shape: [2, 8, 8] },
        { name: 'conv', dtype: 'bf16', shape: [48, 3] },
      ],
    },
    { kind: 'full', kvHeads: 2, headDimK: 8, headDimV: 8 },
  ],
  storage: { dtype: 'bf16', layout: 'NHD', blockTokens: 16, shards: { count: 1, index: 0 } },
};

describe('an object that the descriptor does not have', () => {
  const geometry = new ObjectGeometry(HYBRID);
  test.each<[KvObject, RegExp]>([
    [tokens(0, 9, 0, 1), /tokens object: layers 0\.\.9 of a model with 3/],
    [tokens(0xffff_ffff, 1, 0, 1), /firstLayer is 4294967295/],
    [tokens(2, 1, -1, 1), /firstToken is -1/],
    [tokens(2, 1, 0, 0), /tokenCount is 0/],
    [tokens(2, 0, 0, 1), /layerCount is 0/],
    [tokens(2, 1, 0, 2 ** 31), /tokenCount is 2147483648/],
    [tokens(0, 2, 0, 16), /none of the layers 0\.\.2 keeps all tokens/],
    [{ kind: 'entries', layer: 3, ratio: 4, firstEntry: 0, entryCount: 1 }, /entries object: layer 3 of a model with 3/],
    [{ kind: 'entries', layer: 0, ratio: 0, firstEntry: 0, entryCount: 1 }, /ratio 0/],
    [{ kind: 'entries', layer: 0, ratio: 8, firstEntry: 0, entryCount: 1 }, /layer 0 has no entries of ratio 8/],
    [{ kind: 'entries', layer: 2, ratio: 4, firstEntry: 0, entryCount: 1 }, /layer 2 has no entries of ratio 4/],
    [{ kind: 'entries', layer: 0, ratio: 4, firstEntry: 0, entryCount: 0 }, /entryCount is 0/],
    [{ kind: 'entries', layer: 0, ratio: 4, firstEntry: 2 ** 31, entryCount: 1 }, /firstEntry is 2147483648/],
    [{ kind: 'window', layer: 2, firstToken: 0, tokenCount: 1 }, /layer 2 has no window/],
    [{ kind: 'window', layer: 0, firstToken: 0, tokenCount: 9 }, /9 tokens of a window of 8/],
    [{ kind: 'window', layer: 0, firstToken: 0, tokenCount: 0 }, /tokenCount is 0/],
    [{ kind: 'state', layer: 1, name: 'T', shape: [2, 8, 8] }, /layer 1 has no state "T"/],
    [{ kind: 'state', layer: 9, name: 'S', shape: [2, 8, 8] }, /layer 9 of a model with 3/],
    [{ kind: 'state', layer: 1, name: 'S', shape: [2, 8, 9] }, /shape \[2, 8, 9\] where the descriptor says \[2, 8, 8\]/],
    [{ kind: 'state', layer: 1, name: 'S', shape: [2, 64] }, /shape \[2, 64\] where/],
    [{ kind: 'state', layer: 1, name: 'S', shape: Array<number>(9).fill(2 ** 31) }, /a shape of 9 dimensions; 8 are the limit/],
    [{ kind: 'state', layer: 1, name: 'x'.repeat(65), shape: [1] }, /a name of 65 characters; 64 are the limit/],
  ])('is refused: %o', (object, message) => {
    expect(() => geometry.bytes(object)).toThrow(expect.objectContaining({ reason: 'malformed_frame' }));
    expect(() => geometry.bytes(object)).toThrow(message);
    expect(() => new PageLayout(HYBRID).segments(object)).toThrow(message);
  });

  test('is refused where its size would not be exact', () => {
    const wide: KvDescriptor = {
      ...HYBRID,
      layers: Array.from({ length: 200 }, () => ({ kind: 'full', kvHeads: 64, headDimK: 512, headDimV: 512 })),
    };
    expect(() => new ObjectGeometry(wide).bytes(tokens(0, 200, 0, 0x7fff_ffff))).toThrow(/bytes are too many/);
  });
});

describe('a table that does not hold everything once', () => {
  const TOKENS = 22;
  const table = objectTable(HYBRID, TOKENS, 1);
  const at = (kind: KvObject['kind'], nth = 0): number =>
    table.indexOf(table.filter((object) => object.kind === kind)[nth] as KvObject);
  const without = (index: number): KvObject[] => table.filter((_, i) => i !== index);
  const changed = (index: number, change: object): KvObject[] =>
    table.map((object, i) => (i === index ? ({ ...object, ...change } as KvObject) : object));

  test('(this one does)', () => {
    checkCover(HYBRID, table, TOKENS);
    expect(table.map(({ kind }) => kind).join(' ')).toBe('tokens entries tokens entries window state state state');
  });

  test.each<[string, KvObject[], RegExp]>([
    ['without its last tokens', without(at('tokens', 1)), /the objects of layers 0\.\.3 end at token 16, not 22/],
    ['without any tokens', table.filter(({ kind }) => kind !== 'tokens'), /no object has the tokens of layer 2/],
    ['with tokens twice', [...table, tokens(0, 3, 0, 16)], /object 8 begins at token 0, not 22/],
    ['with a layer in two groups', [...table, tokens(2, 1, 0, 22)], /layers 2\.\.3 are in two groups/],
    ['with groups that change', [...table, tokens(0, 2, 22, 1)], /has layers 0\.\.2, one before 0\.\.3/],
    ['with a hole', changed(at('tokens', 1), { firstToken: 17 }), /object 2 begins at token 17, not 16/],
    ['without entries', without(at('entries', 1)), /4 entries of layer 0, ratio 4; 22 tokens make 5/],
    ['with overlapping entries', changed(at('entries', 1), { firstEntry: 3 }), /begins at entry 3 of layer 0, ratio 4, not 4/],
    ['with entries to come', changed(at('entries', 1), { entryCount: 2 }), /6 entries of layer 0, ratio 4; 22 tokens make 5/],
    ['without a window', without(at('window')), /no object is the window of layer 0/],
    ['with an older window', changed(at('window'), { firstToken: 13 }), /a window of tokens 13\.\.21, not 14\.\.22/],
    ['with a window twice', [...table, table[at('window')]!], /object 8 is the window of layer 0 a second time/],
    ['without a state', without(at('state', 1)), /no object is state "S" of layer 1/],
    ['with a state twice', [...table, table[at('state', 2)]!], /object 8 is state "conv" of layer 1 a second time/],
  ])('%s is refused', (_, objects, message) => {
    expect(() => checkCover(HYBRID, objects, TOKENS)).toThrow(message);
    expect(() => checkCover(HYBRID, objects, TOKENS)).toThrow(expect.objectContaining({ reason: 'malformed_frame' }));
  });
});
