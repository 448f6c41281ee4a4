/**
 * How fast pages in a chip's own storage become wire order and back, on one thread: GB of f32 numbers' worth and of stored bytes a
 * second of processor time, for SmolLM2's shape. Writes docs/reports/kv-convert.json.
 *
 * Usage: node tests/bench/kv-convert.ts [--repeats N] [--pages N]
 */
import { chipFamily, chipStorage } from '@causeway/chips';
import {
  BlockConverter,
  type KvDescriptor,
  type KvStorage,
  type KvWireForm,
  pageBytes,
  storageName,
  wireDescriptor,
  wireFormOf,
  wirePageBytes,
} from '@causeway/kv';
import { flag, showSpread, type Spread, spread, writeReport } from './bench-report.ts';

const repeats = Number(flag('repeats', '7'));
const pageCount = Number(flag('pages', '16'));
const layers = Array.from({ length: 30 }, () => ({ kind: 'full', kvHeads: 3, headDimK: 64, headDimV: 64 }) as const);

const nvidia = chipFamily('nvidia');
const ascend = chipFamily('ascend');
const STORAGES: KvStorage[] = [
  chipStorage(nvidia, { layout: 'HND', blockTokens: 64 }),
  chipStorage(ascend, { layout: 'NZ' }),
  chipStorage(nvidia, { dtype: 'f8e4m3', layout: 'HND', blockTokens: 64 }),
  chipStorage(ascend, { dtype: 'int8', layout: 'NZ' }),
  chipStorage(chipFamily('cambricon'), { dtype: 'int8', blockTokens: 64 }),
];

interface Row {
  storage: string;
  wire: string;
  /** GB of stored bytes a second. */
  toWire: number;
  fromWire: number;
}

/** One pass over all pages in both directions. */
function pass(storage: KvStorage, form: KvWireForm): Row {
  const descriptor: KvDescriptor = { version: 1, layers, storage };
  const converter = new BlockConverter(descriptor, form);
  const [size, wireSize] = [pageBytes(descriptor), wirePageBytes(wireDescriptor(descriptor, form))];
  const rows = Float32Array.from(
    { length: wirePageBytes(wireDescriptor(descriptor, { dtype: 'f32' })) / 4 },
    (_, i) => Math.sin(i * 0.37) * 3,
  );
  const first = new Uint8Array(size);
  new BlockConverter(descriptor, { dtype: 'f32' }).fromWire(new Uint8Array(rows.buffer), first);
  const pages = Array.from({ length: pageCount }, () => first.slice());
  // written once: the first write to fresh memory is the system's work
  const wires = Array.from({ length: pageCount }, () => new Uint8Array(wireSize).fill(1));
  const speed = (step: (i: number) => void): number => {
    const before = process.cpuUsage();
    for (let i = 0; i < pageCount; i++) step(i);
    const { user, system } = process.cpuUsage(before);
    return (size * pageCount) / (user + system) / 1e3;
  };
  const toWire = speed((i) => converter.toWire(pages[i] as Uint8Array, wires[i] as Uint8Array));
  const fromWire = speed((i) => converter.fromWire(wires[i] as Uint8Array, pages[i] as Uint8Array));
  return { storage: storageName(storage), wire: form.dtype, toWire, fromWire };
}

const cases = STORAGES.flatMap((storage): [KvStorage, KvWireForm][] => [
  [storage, wireFormOf(storage)],
  [storage, { dtype: 'f32' }],
]);
for (const [storage, form] of cases) pass(storage, form); // compiled from here on
const runs = Array.from({ length: repeats }, () => cases.map(([storage, form]) => pass(storage, form)));
const summary: Record<string, { toWire: Spread; fromWire: Spread }> = {};
for (const [i, { storage, wire }] of (runs[0] ?? []).entries()) {
  const own = runs.map((run) => run[i] as Row);
  const result = { toWire: spread(own.map((row) => row.toWire)), fromWire: spread(own.map((row) => row.fromWire)) };
  summary[`${storage} as ${wire}`] = result;
  console.log(`${storage} as ${wire}: to wire ${showSpread(result.toWire)} GB/s, from wire ${showSpread(result.fromWire)} GB/s`);
}
writeReport('kv-convert', {
  command: `node tests/bench/kv-convert.ts --repeats ${repeats} --pages ${pageCount}`,
  peers: {},
  setting: {
    layers: 30,
    kvHeads: 3,
    headDim: 64,
    pages: pageCount,
    unit: 'GB of stored bytes per second of processor time, one thread',
  },
  repeats: runs.map((rows) => ({ rows })),
  summary,
});
