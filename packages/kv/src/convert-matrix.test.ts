import { afterAll, describe, expect, test } from 'vitest';
import { BlockConverter } from './convert-block.ts';
import { KV_DTYPES, KV_LAYOUTS, type KvDescriptor, type KvDtype, type KvStorage, type LayerGeometry } from './descriptor.ts';
import { objectTable } from './object-table.ts';
import { PageLayout, type Segment } from './page-layout.ts';
import { pageBytes, wirePageBytes } from './page-size.ts';
import { type NumberOf, plainPages, plainWire, roundedBy } from './testing/plain-pages.ts';
import { chooseWire, holdsExactly, storageName, wireDescriptor, wireFormOf } from './wire-choice.ts';

const BLOCKS = [16, 64, 128];
const SHARDS = [1, 2, 4];
const GEOMETRIES: Record<string, LayerGeometry> = {
  GQA: { kind: 'full', kvHeads: 4, headDimK: 16, headDimV: 8 },
  MQA: { kind: 'full', kvHeads: 1, headDimK: 24, headDimV: 24 },
  MLA: { kind: 'latent', rank: 32, ropeDim: 8 },
};
const TOKENS = 133;

/** Runs by cell; a cell without any fails the table. */
const counts = new Map<string, number>();
const count = (...cells: string[]): void => cells.forEach((cell) => counts.set(cell, (counts.get(cell) ?? 0) + 1));

/** Numbers of about one, a few of them large, small, zero. */
const numberOf: NumberOf = (section, token, head, dim) => {
  const mix = Math.imul(section * 7 + token * 131 + head * 17 + dim + 1, 0x9e3779b1) >>> 0;
  if (mix % 97 === 0) return 0;
  const value = Math.sin(mix) * 2 ** ((mix >>> 8) % 7) * (mix % 53 === 0 ? 2 ** -9 : 1);
  return Math.fround(value);
};

const layouts = (storage: Omit<KvStorage, 'shards'>, shards: number): KvStorage[] =>
  Array.from({ length: shards }, (_, index) => ({ ...storage, shards: { count: shards, index } }));

function storageOf(
  dtype: KvDtype,
  layout: KvStorage['layout'],
  blockTokens: number,
  o: { latent: boolean },
): Omit<KvStorage, 'shards'> {
  return {
    dtype,
    layout,
    blockTokens,
    ...(o.latent ? { latent: 'split' } : {}),
    ...(dtype === 'f8e4m3' ? { scale: 0.25 } : {}),
  };
}

const descriptorOf = (layer: LayerGeometry, storage: KvStorage): KvDescriptor => ({ version: 1, layers: [layer], storage });
function expectBytes(found: Uint8Array, wanted: Uint8Array, what: string): void {
  if (Buffer.compare(found, wanted) === 0) return;
  const at = wanted.findIndex((byte, i) => byte !== found[i]);
  expect.fail(`${what}: byte ${at} of ${wanted.length} is ${found[at]}, not ${wanted[at]} (${found.length} bytes)`);
}

const nameOf = (storage: KvStorage): string => storageName(storage);

/** Memory whose every byte is written, or the test sees it. */
const dirty = (bytes: number): Uint8Array => new Uint8Array(bytes).fill(0xa5);

describe('each half alone', () => {
  test.each(Object.keys(GEOMETRIES))('storage to wire and wire to storage equal the plain reference (%s)', (name) => {
    const layer = GEOMETRIES[name] as LayerGeometry;
    for (const dtype of KV_DTYPES)
      for (const layout of KV_LAYOUTS)
        for (const blockTokens of BLOCKS)
          for (const shards of SHARDS)
            for (const latent of layer.kind === 'latent' && layout !== 'HND' ? [false, true] : [false]) {
              const storage = storageOf(dtype, layout, blockTokens, { latent });
              const wireDtype = KV_DTYPES[
                (KV_LAYOUTS.indexOf(layout) + SHARDS.indexOf(shards) * 2) % KV_DTYPES.length
              ] as KvDtype;
              halves(layer, layouts(storage, shards), wireFormOf(storageOf(wireDtype, 'NHD', 1, { latent: false }) as KvStorage));
              count(`half ${dtype}`, `half ${layout}`, `half ${shards} shards`, `half ${name}`);
            }
  });

  function halves(layer: LayerGeometry, shards: readonly KvStorage[], form: ReturnType<typeof wireFormOf>): void {
    const [{ blockTokens, ...own }] = shards as [KvStorage];
    const kept = roundedBy(layer, own, numberOf);
    const wanted = plainWire(layer, form, blockTokens, 1, kept);
    const wire = dirty(wanted.length);
    for (const storage of shards) {
      const page = plainPages(layer, storage, 2, numberOf)[1] as Uint8Array;
      new BlockConverter(descriptorOf(layer, storage), form).toWire(page, wire);
    }
    expectBytes(wire, wanted, `${nameOf(shards[0] as KvStorage)} of ${shards.length} to wire ${form.dtype}`);
    const sent = roundedBy(layer, form, kept);
    for (const storage of shards) {
      const target = plainPages(layer, storage, 2, sent)[1] as Uint8Array;
      const page = new Uint8Array(target.length);
      new BlockConverter(descriptorOf(layer, storage), form).fromWire(wanted, page);
      expectBytes(page, target, `wire ${form.dtype} to ${nameOf(storage)}`);
    }
  }
});

/** One transfer of TOKENS tokens as endpoints do it, without a network. */
function carry(layer: LayerGeometry, from: readonly KvStorage[], to: readonly KvStorage[]): { exact: boolean } {
  const [source, target] = [from[0] as KvStorage, to[0] as KvStorage];
  const [sender, receiver] = [descriptorOf(layer, source), descriptorOf(layer, target)];
  // All arenas of both ends take part.
  const whole = (descriptor: KvDescriptor): KvDescriptor => {
    const { count, index } = descriptor.storage.shards;
    return {
      ...descriptor,
      storage: { ...descriptor.storage, shards: count === 1 ? { count, index } : { count, index, all: true } },
    };
  };
  const { form, lossless } = chooseWire({ from: whole(sender), to: whole(receiver), accepted: KV_DTYPES, lossy: true });
  const blocks = (storage: KvStorage) => Math.ceil(TOKENS / storage.blockTokens);
  const inRange: NumberOf = (section, token, head, dim) => (token < TOKENS ? numberOf(section, token, head, dim) : 0);

  const sentWire = wireDescriptor(sender, form);
  const out = Array.from({ length: blocks(source) }, () => new Uint8Array(wirePageBytes(sentWire)));
  for (const storage of from) {
    const converter = new BlockConverter(descriptorOf(layer, storage), form);
    plainPages(layer, storage, blocks(source), inRange).forEach((page, i) => converter.toWire(page, out[i] as Uint8Array));
  }
  const keptWire = wireDescriptor(receiver, form);
  const arrived = Array.from({ length: blocks(target) }, () => new Uint8Array(wirePageBytes(keptWire)));
  const [reads, writes] = [new PageLayout(sentWire), new PageLayout(keptWire)];
  for (const object of objectTable(receiver, TOKENS, 4096)) {
    scatter(gather(out, reads.segments(object)), arrived, writes.segments(object));
  }
  const kept = roundedBy(layer, target, roundedBy(layer, form, roundedBy(layer, source, inRange)));
  for (const storage of to) {
    const converter = new BlockConverter(descriptorOf(layer, storage), form);
    const what = `${nameOf(source)} of ${from.length} as ${form.dtype} to ${nameOf(storage)}`;
    const wanted = plainPages(layer, storage, blocks(target), kept);
    for (const [i, bytes] of wanted.entries()) {
      const page = new Uint8Array(pageBytes(descriptorOf(layer, storage)));
      converter.fromWire(arrived[i] as Uint8Array, page);
      if ((i + 1) * storage.blockTokens <= TOKENS) expectBytes(page, bytes, what);
      else expectBytes(firstTokens(layer, storage, page, i), firstTokens(layer, storage, bytes, i), `${what}, last tokens`);
    }
  }
  if (lossless) {
    const before = roundedBy(layer, source, inRange);
    for (const token of [0, 63, TOKENS - 1]) if (kept(0, token, 0, 3) !== before(0, token, 0, 3)) throw new Error('not exact');
  }
  return { exact: lossless };
}

/** Of a block that is not full, the f32 numbers of its tokens: what lies past them is nobody's. */
function firstTokens(layer: LayerGeometry, storage: KvStorage, page: Uint8Array, block: number): Uint8Array {
  const descriptor = wireDescriptor(descriptorOf(layer, storage), { dtype: 'f32' });
  const wire = new Uint8Array(wirePageBytes(descriptor));
  new BlockConverter(descriptorOf(layer, storage), { dtype: 'f32' }).toWire(page, wire);
  const tokenCount = TOKENS - block * storage.blockTokens;
  return gather(
    [wire],
    new PageLayout(descriptor).segments({ kind: 'tokens', firstLayer: 0, layerCount: 1, firstToken: 0, tokenCount }),
  );
}

const gather = (pages: readonly Uint8Array[], runs: readonly Segment[]): Uint8Array =>
  Buffer.concat(runs.map(({ page, offset, length }) => (pages[page] as Uint8Array).subarray(offset, offset + length)));

function scatter(bytes: Uint8Array, pages: readonly Uint8Array[], runs: readonly Segment[]): void {
  let at = 0;
  for (const { page, offset, length } of runs) {
    (pages[page] as Uint8Array).set(bytes.subarray(at, at + length), offset);
    at += length;
  }
}

describe('any storage to any other', () => {
  /** Block and split pairs take turns, so that each meets every pair of types and of layouts. */
  let turn = 0;
  test.each(KV_DTYPES)('from %s', { timeout: 300_000 }, (fromDtype) => {
    for (const toDtype of KV_DTYPES)
      for (const fromLayout of KV_LAYOUTS)
        for (const toLayout of KV_LAYOUTS)
          for (const [name, layer] of Object.entries(GEOMETRIES)) {
            const index = turn++ * 25;
            const pick = (list: readonly number[], place: number): number => list[Math.floor(index / place) % 3] as number;
            const [fromBlock, toBlock] = [pick(BLOCKS, 1), pick(BLOCKS, 3)];
            const [fromShards, toShards] = [pick(SHARDS, 9), pick(SHARDS, 27)];
            const latent = layer.kind === 'latent';
            const { exact } = carry(
              layer,
              layouts(storageOf(fromDtype, fromLayout, fromBlock, { latent: latent && fromLayout === 'NZ' }), fromShards),
              layouts(storageOf(toDtype, toLayout, toBlock, { latent: latent && toLayout === 'NZ' }), toShards),
            );
            count(
              `type ${fromDtype}>${toDtype}`,
              `layout ${fromLayout}>${toLayout}`,
              `block ${fromBlock}>${toBlock}`,
              `shards ${fromShards}>${toShards}`,
              `block and shards ${fromBlock}/${fromShards}>${toBlock}/${toShards}`,
              `geometry ${name}`,
              `${name} type ${fromDtype}>${toDtype}`,
              `${name} layout ${fromLayout}>${toLayout}`,
              exact ? 'exact' : 'rounded',
            );
          }
  });

  test('what is lossless is told so', () => {
    const layers = [GEOMETRIES.GQA as LayerGeometry];
    expect(holdsExactly({ dtype: 'f32' }, { dtype: 'int8' }, layers)).toBe(true);
    expect(holdsExactly({ dtype: 'bf16' }, { dtype: 'f16' }, layers)).toBe(false);
    expect(holdsExactly({ dtype: 'bf16' }, { dtype: 'f8e4m3' }, layers)).toBe(true);
  });
});

afterAll(() => {
  const names = (list: readonly (string | number)[]) => list.flatMap((a) => list.map((b) => `${a}>${b}`));
  const table: [string, string[]][] = [
    ['type', names(KV_DTYPES)],
    ['layout', names(KV_LAYOUTS)],
    ['block', names(BLOCKS)],
    ['shards', names(SHARDS)],
    ['block and shards', names(BLOCKS.flatMap((block) => SHARDS.map((shards) => `${block}/${shards}`)))],
    ['geometry', Object.keys(GEOMETRIES)],
    ...Object.keys(GEOMETRIES).map((name): [string, string[]] => [`${name} type`, names(KV_DTYPES)]),
    ...Object.keys(GEOMETRIES).map((name): [string, string[]] => [`${name} layout`, names(KV_LAYOUTS)]),
    ['half', [...KV_DTYPES, ...KV_LAYOUTS, ...SHARDS.map((n) => `${n} shards`), ...Object.keys(GEOMETRIES)]],
  ];
  const empty: string[] = [];
  for (const [kind, cells] of table) {
    const shown = cells.map((cell) => {
      const runs = counts.get(`${kind} ${cell}`) ?? 0;
      if (runs === 0) empty.push(`${kind} ${cell}`);
      return `${cell} ${runs}`;
    });
    process.stdout.write(`${kind}: ${shown.join(' · ')}\n`);
  }
  process.stdout.write(`exact ${counts.get('exact')} · rounded ${counts.get('rounded')}\n`);
  expect(empty).toEqual([]);
});
