import { type KvDescriptor, type FloatDtype, type LayerGeometry, layerSections, PageLayout, PagePool } from '@causeway/kv';
import { NativeBuffer, Runtime } from '@causeway/ort';
import { afterAll, describe, expect, it } from 'vitest';
import { LoopTime } from './loop-time.ts';
import { Packer } from './packing.ts';
import { Slots } from './slots.ts';

const runtime = Runtime.create({ threads: 2 });
afterAll(() => runtime[Symbol.asyncDispose]());

const LAYERS: LayerGeometry[] = [
  { kind: 'full', kvHeads: 3, headDimK: 16, headDimV: 16 },
  { kind: 'latent', rank: 20, ropeDim: 9 }, // 29 columns, 32 in the slot
  { kind: 'full', kvHeads: 1, headDimK: 8, headDimV: 8 },
];

async function start(dtype: FloatDtype, layers = LAYERS, o = { capacity: 24, blockTokens: 4, pageCount: 10 }) {
  const storage = { dtype, layout: 'NHD' as const, blockTokens: o.blockTokens, shards: { count: 1, index: 0 } };
  const descriptor: KvDescriptor = { version: 1, layers, storage };
  const stack = new AsyncDisposableStack();
  const time = new LoopTime();
  const pool = stack.use(new PagePool({ descriptor, pageCount: o.pageCount }));
  const slots = stack.use(new Slots({ descriptor, maxSequences: 3, capacity: o.capacity }, time));
  const packer = stack.use(await Packer.create({ runtime, slots, pool, time, compare: true }));
  const arena = (i: number): Float32Array => {
    const memory = slots.sections[i]?.memories[0];
    if (!(memory instanceof NativeBuffer)) throw new Error(`section ${i} has no memory of the host`);
    const bytes = memory.bytes();
    return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  };
  return { pool, slots, packer, arena, descriptor, time, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

/** Value of (section, row, head, token, dimension), not representable in 16 bits. */
const valueOf = (s: number, row: number, head: number, token: number, dim: number) =>
  Math.fround(Math.sin(s * 7.3 + row * 3.1 + head * 1.7 + token * 0.37 + dim * 0.011) * 3);

function fillSlots(t: Awaited<ReturnType<typeof start>>): void {
  t.slots.sections.forEach((section, s) => {
    const arena = t.arena(s);
    let i = 0;
    for (let row = 0; row < t.slots.rows; row++)
      for (let head = 0; head < section.heads; head++)
        for (let token = 0; token < t.slots.capacity; token++)
          for (let dim = 0; dim < section.slotWidth; dim++)
            arena[i++] = dim < section.pageWidth ? valueOf(s, row, head, token, dim) : 0;
  });
}

/** Numbers of a page in storage order. */
function decode(bytes: Uint8Array, dtype: FloatDtype): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const read = {
    f32: (i: number) => view.getFloat32(i * 4, true),
    f16: (i: number) => halfToNumber(view.getUint16(i * 2, true)),
    bf16: (i: number) => bits(view.getUint16(i * 2, true) << 16),
  }[dtype];
  return Array.from({ length: bytes.byteLength / (dtype === 'f32' ? 4 : 2) }, (_, i) => read(i));
}

const scratch = new DataView(new ArrayBuffer(4));
function bits(word: number): number {
  scratch.setInt32(0, word);
  return scratch.getFloat32(0);
}
function halfToNumber(h: number): number {
  const exponent = (h >> 10) & 31;
  const fraction = h & 1023;
  const magnitude = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15);
  return h & 0x8000 ? -magnitude : magnitude;
}

/** Nearest number with `digits` binary digits, ties to even. */
function round(value: number, digits: number): number {
  if (value === 0) return value;
  const unit = 2 ** (Math.floor(Math.log2(Math.abs(value))) - digits + 1);
  const scaled = value / unit;
  const floor = Math.floor(scaled);
  const rest = scaled - floor;
  return (rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor) * unit;
}
const rounded = { f32: (x: number) => x, f16: (x: number) => round(x, 11), bf16: (x: number) => round(x, 8) };

const BLOCKS = [
  { row: 0, token: 0, page: 7 },
  { row: 2, token: 20, page: 0 },
  { row: 3, token: 4, page: 3 },
];

describe('Packer', () => {
  it.each(['f32', 'f16', 'bf16'] as const)(
    'packs %s pages as [layer][section][token][head][dim], rounded to nearest even',
    async (dtype) => {
      await using t = await start(dtype);
      fillSlots(t);
      const before = t.pool.bytes(5).slice();
      await t.packer.pack(BLOCKS);
      for (const { row, token, page } of BLOCKS) {
        const expected: number[] = [];
        t.slots.sections.forEach((section, s) => {
          for (let k = token; k < token + 4; k++)
            for (let head = 0; head < section.heads; head++)
              for (let dim = 0; dim < section.pageWidth; dim++) expected.push(rounded[dtype](valueOf(s, row, head, k, dim)));
        });
        const stored = decode(t.pool.bytes(page), dtype);
        expect(stored.length).toBe(expected.length);
        expect(Math.max(...stored.map((x, i) => Math.abs(x - (expected[i] as number))))).toBeLessThan(
          dtype === 'f16' ? 1e-7 : 1e-45,
        );
      }
      expect(t.pool.bytes(5)).toEqual(before);
    },
  );

  it.each(['f32', 'f16', 'bf16'] as const)('fills slots from %s pages and touches nothing else', async (dtype) => {
    await using t = await start(dtype);
    fillSlots(t);
    await t.packer.pack(BLOCKS);
    const original = t.slots.sections.map((_, s) => t.arena(s).slice());
    t.slots.sections.forEach((_, s) => t.arena(s).fill(Number.NaN));
    // Into another row and place than they came from.
    const target = [
      { row: 1, token: 8, page: 7 },
      { row: 1, token: 0, page: 0 },
      { row: 0, token: 20, page: 3 },
    ];
    await t.packer.unpack(target);
    t.slots.sections.forEach((section, s) => {
      const arena = t.arena(s);
      const at = (row: number, head: number, token: number, dim: number) =>
        ((row * section.heads + head) * t.slots.capacity + token) * section.slotWidth + dim;
      let written = 0;
      target.forEach((place, b) => {
        const from = BLOCKS.find((block) => block.page === place.page) as (typeof BLOCKS)[number];
        for (let k = 0; k < 4; k++)
          for (let head = 0; head < section.heads; head++)
            for (let dim = 0; dim < section.slotWidth; dim++) {
              const value = original[s]?.[at(from.row, head, from.token + k, dim)] as number;
              const got = arena[at(place.row, head, place.token + k, dim)] as number;
              expect(Math.abs(got - rounded[dtype](value)), `${b} ${k} ${head} ${dim}`).toBeLessThan(1e-7);
              written++;
            }
      });
      expect(arena.filter((x) => !Number.isNaN(x)).length).toBe(written);
    });
  });

  it('agrees with the byte runs that the wire uses', async () => {
    await using t = await start('f32');
    fillSlots(t);
    await t.packer.pack([{ row: 2, token: 8, page: 4 }]);
    const page = t.pool.bytes(4);
    const object = { kind: 'tokens' as const, firstLayer: 1, layerCount: 1, firstToken: 1, tokenCount: 2 };
    const runs = new PageLayout(t.descriptor).segments(object);
    expect(runs.length).toBe(1);
    const run = runs[0] as (typeof runs)[number];
    const numbers = decode(page.slice(run.offset, run.offset + run.length), 'f32');
    expect(numbers).toEqual([9, 10].flatMap((token) => Array.from({ length: 29 }, (_, dim) => valueOf(2, 2, 0, token, dim))));
    expect(layerSections(LAYERS[1] as LayerGeometry)[0]?.width).toBe(29);
  });

  it('finds a single bit that differs between slot and page', async () => {
    await using t = await start('f16');
    fillSlots(t);
    await t.packer.pack(BLOCKS);
    expect(await t.packer.difference(BLOCKS)).toEqual(BLOCKS[0]); // slots are not rounded yet
    await t.packer.unpack(BLOCKS);
    expect(await t.packer.difference(BLOCKS)).toBeUndefined();
    const bytes = t.pool.bytes(3);
    bytes[77] = (bytes[77] as number) ^ 1;
    expect(await t.packer.difference(BLOCKS)).toEqual(BLOCKS[2]);
  });

  it('moves more blocks than one run holds, in place: time does not grow with pool or slot size', async () => {
    const layers = Array.from({ length: 8 }, (): LayerGeometry => ({ kind: 'full', kvHeads: 4, headDimK: 64, headDimV: 64 }));
    await using t = await start('f32', layers, { capacity: 65_536, blockTokens: 16, pageCount: 4096 });
    const blocks = Array.from({ length: 40 }, (_, i) => ({ row: i % 3, token: (i % 9) * 16, page: i * 100 }));
    t.arena(3).fill(1.5, 0, 4 * 65_536 * 64);
    await t.packer.pack(blocks);
    const start0 = performance.now();
    await t.packer.pack(blocks);
    await t.packer.unpack(blocks);
    const ms = performance.now() - start0;
    // 21 MB each way; copying pool (1 GB) or arenas (4 GB) once would take a second and commit all of it.
    expect(ms).toBeLessThan(500);
    expect(await t.packer.difference(blocks)).toBeUndefined();
    expect(decode(t.pool.bytes(0).slice(0, 4), 'f32')).toEqual([0]);
  });
});
