/** Pages of one storage made of those of another, as a transfer makes them, without a network: storage, wire, storage. */
import {
  BlockConverter,
  chooseWire,
  KV_DTYPES,
  type KvDescriptor,
  type KvDtype,
  layerSections,
  objectTable,
  pageBytes,
  PageLayout,
  type Segment,
  wireDescriptor,
  wirePageBytes,
} from '@causeway/kv';

const OBJECT_BYTES = 64 * 1024;

/** What became of the numbers. */
export interface Carried {
  pages: Uint8Array[];
  lossless: boolean;
  wire: KvDtype;
}

/** Carries the first `tokens` tokens, which fill whole blocks of both. */
export function carryPages(pages: readonly Uint8Array[], from: KvDescriptor, to: KvDescriptor, tokens: number): Carried {
  const { form, lossless } = chooseWire({ from, to, accepted: KV_DTYPES, lossy: true });
  const [sent, kept] = [wireDescriptor(from, form), wireDescriptor(to, form)];
  const [reads, writes] = [new PageLayout(sent), new PageLayout(kept)];
  const read = new BlockConverter(from, form);
  const out = pages.map((page) => {
    const wire = new Uint8Array(wirePageBytes(sent));
    read.toWire(aligned(page), wire);
    return wire;
  });
  const blocks = tokens / to.storage.blockTokens;
  const arrived = Array.from({ length: blocks }, () => new Uint8Array(wirePageBytes(kept)));
  for (const object of objectTable(to, tokens, OBJECT_BYTES)) {
    scatter(gather(out, reads.segments(object)), arrived, writes.segments(object));
  }
  const write = new BlockConverter(to, form);
  const made = arrived.map((wire) => {
    const page = new Uint8Array(pageBytes(to));
    write.fromWire(wire, page);
    return page;
  });
  return { pages: made, lossless, wire: form.dtype };
}

/** The largest difference of two numbers, by the largest number of its token and section. */
export function largestDistance(a: readonly Uint8Array[], b: readonly Uint8Array[], descriptor: KvDescriptor): number {
  const converter = new BlockConverter(descriptor, { dtype: 'f32' });
  const bytes = wirePageBytes(wireDescriptor(descriptor, { dtype: 'f32' }));
  const numbers = (page: Uint8Array) => {
    const wire = new Uint8Array(bytes);
    converter.toWire(aligned(page), wire);
    return new Float32Array(wire.buffer);
  };
  let largest = 0;
  for (const [i, page] of a.entries()) {
    const [left, right] = [numbers(page), numbers(b[i] as Uint8Array)];
    let at = 0;
    for (const { width } of descriptor.layers.flatMap(layerSections)) {
      for (let token = 0; token < descriptor.storage.blockTokens; token++, at += width) {
        let [magnitude, error] = [0, 0];
        for (let n = at; n < at + width; n++) {
          magnitude = Math.max(magnitude, Math.abs(left[n] as number));
          error = Math.max(error, Math.abs((left[n] as number) - (right[n] as number)));
        }
        if (error > 0) largest = Math.max(largest, error / magnitude);
      }
    }
  }
  return largest;
}

/** Converters view pages as words: a copy begins at a multiple of four. */
function aligned(page: Uint8Array): Uint8Array {
  return page.byteOffset % 8 === 0 ? page : Uint8Array.from(page);
}

function gather(pages: readonly Uint8Array[], runs: readonly Segment[]): Buffer {
  return Buffer.concat(runs.map(({ page, offset, length }) => (pages[page] as Uint8Array).subarray(offset, offset + length)));
}

function scatter(bytes: Uint8Array, pages: readonly Uint8Array[], runs: readonly Segment[]): void {
  let at = 0;
  for (const { page, offset, length } of runs) {
    (pages[page] as Uint8Array).set(bytes.subarray(at, at + length), offset);
    at += length;
  }
}
