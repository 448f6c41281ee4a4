/**
 * Pages packed number by number, straight from the shapes of the families' own code: slow, and sharing nothing with the converter
 * that it is the reference of.
 */
import type { KvDtype, KvStorage, LayerGeometry } from '../descriptor.ts';

/** A number of a layer: which of its vectors, token, head, dimension. */
export type NumberOf = (section: number, token: number, head: number, dim: number) => number;

interface PlainPart {
  section: number;
  heads: readonly number[];
  firstDim: number;
  width: number;
  dtype: KvDtype;
}

const BITS: Readonly<Record<KvDtype, number>> = { f32: 32, f16: 16, bf16: 16, f8e4m3: 8, int8: 8, int4: 4 };

/** Every finite value of f8e4m3 that isn't negative, by its byte. */
const F8 = Array.from({ length: 127 }, (_, byte) =>
  byte < 8 ? byte * 2 ** -9 : (8 + (byte % 8)) * 2 ** (Math.floor(byte / 8) - 10),
);

const nearestF8 = new Map<number, number>();

/** The byte of the nearest value; of two the even one. */
function nearest(magnitude: number): number {
  let best = 0;
  for (const [byte, candidate] of F8.entries()) {
    const better = Math.abs(candidate - magnitude) - Math.abs((F8[best] as number) - magnitude);
    if (better < 0 || (better === 0 && byte % 2 === 0)) best = byte;
  }
  return best;
}

const view = new DataView(new ArrayBuffer(8));

/** The bits of a number; of bf16 by trying both neighbours, of f8e4m3 by trying every value. */
export function numberBits(value: number, dtype: Exclude<KvDtype, 'int8' | 'int4'>, scale = 1): number {
  switch (dtype) {
    case 'f32':
      view.setFloat32(0, value);
      return view.getUint32(0);
    case 'f16':
      view.setFloat16(0, value);
      return view.getUint16(0);
    case 'bf16': {
      view.setFloat32(0, value);
      const below = view.getUint32(0) >>> 16;
      const distance = (bits: number) => Math.abs(bitsNumber(bits, 'bf16') - Math.fround(value));
      const [down, up] = [distance(below), distance(below + 1)];
      if (down === up) return below % 2 === 0 ? below : below + 1;
      return down < up ? below : below + 1;
    }
    case 'f8e4m3': {
      const magnitude = Math.abs(Math.fround(value / scale));
      const best = nearestF8.get(magnitude) ?? nearest(magnitude);
      nearestF8.set(magnitude, best);
      return best | (value < 0 || Object.is(value, -0) ? 0x80 : 0);
    }
  }
}

/** The number that bits are. */
export function bitsNumber(bits: number, dtype: Exclude<KvDtype, 'int8' | 'int4'>, scale = 1): number {
  switch (dtype) {
    case 'f32':
      view.setUint32(0, bits);
      return view.getFloat32(0);
    case 'f16':
      view.setUint16(0, bits);
      return view.getFloat16(0);
    case 'bf16':
      view.setUint32(0, bits * 65536);
      return view.getFloat32(0);
    case 'f8e4m3':
      return Math.fround((F8[bits & 0x7f] as number) * (bits & 0x80 ? -1 : 1) * scale);
  }
}

function roundEven(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest !== 0.5) return rest < 0.5 ? below : below + 1;
  return below % 2 === 0 ? below : below + 1;
}

/** A head's codes and their factor. */
export function headCodes(values: readonly number[], dtype: 'int8' | 'int4'): { codes: number[]; factor: number } {
  const largest = dtype === 'int8' ? 127 : 7;
  const magnitude = Math.max(2 ** -100, ...values.map(Math.abs));
  const factor = bitsNumber(numberBits(Math.fround(magnitude / largest), 'bf16'), 'bf16');
  const codes = values.map((value) => Math.min(largest, Math.max(-largest, roundEven(Math.fround(value / factor)))));
  return { codes, factor };
}

/** The numbers of one head of one token as a part holds them. */
function stored(values: readonly number[], dtype: KvDtype, scale: number): number[] {
  if (dtype !== 'int8' && dtype !== 'int4') return values.map((v) => bitsNumber(numberBits(v, dtype, scale), dtype, scale));
  const { codes, factor } = headCodes(values, dtype);
  return codes.map((code) => Math.fround(code * factor) + 0);
}

function partsOf(layer: LayerGeometry, storage: Pick<KvStorage, 'dtype' | 'latent' | 'shards'>): PlainPart[] {
  const { dtype, latent, shards } = storage;
  if (layer.kind === 'none') return [];
  if (layer.kind === 'latent') {
    const width = layer.rank + layer.ropeDim;
    const whole = { section: 0, heads: [0], dtype };
    if (latent !== 'split') return [{ ...whole, firstDim: 0, width }];
    const rope = dtype === 'int8' || dtype === 'int4' ? 'bf16' : dtype;
    return [
      { ...whole, firstDim: 0, width: layer.rank },
      { ...whole, firstDim: layer.rank, width: layer.ropeDim, dtype: rope },
    ];
  }
  const heads = Array.from({ length: layer.kvHeads }, (_, head) => head).filter((head) =>
    shards.count <= layer.kvHeads
      ? Math.floor(head / (layer.kvHeads / shards.count)) === shards.index
      : head === Math.floor((shards.index * layer.kvHeads) / shards.count),
  );
  return [layer.headDimK, layer.headDimV].map((width, section) => ({ section, heads, firstDim: 0, width, dtype }));
}

/** What a storage makes of numbers: those that it gives back. */
export function roundedBy(layer: LayerGeometry, form: Pick<KvStorage, 'dtype' | 'latent' | 'scale'>, value: NumberOf): NumberOf {
  const known = new Map<string, number[]>();
  const parts = partsOf(layer, { ...form, shards: { count: 1, index: 0 } });
  return (section, token, head, dim) => {
    const part = parts.find((p) => p.section === section && dim >= p.firstDim && dim < p.firstDim + p.width) as PlainPart;
    const key = `${section} ${part.firstDim} ${token} ${head}`;
    let values = known.get(key);
    if (values === undefined) {
      const given = Array.from({ length: part.width }, (_, i) => value(section, token, head, part.firstDim + i));
      values = stored(given, part.dtype, form.scale ?? 1);
      known.set(key, values);
    }
    return values[dim - part.firstDim] as number;
  };
}

/** Pages of `blocks` blocks of one layer in a storage, numbers in little-endian order; layers begin at multiples of 64 bytes. */
export function plainPages(layer: LayerGeometry, storage: KvStorage, blocks: number, value: NumberOf): Uint8Array[] {
  return Array.from({ length: blocks }, (_, block) => plainPage(layer, storage, block, value));
}

function plainPage(layer: LayerGeometry, storage: KvStorage, block: number, value: NumberOf): Uint8Array {
  const { layout, blockTokens, scale = 1 } = storage;
  const bytes: number[] = [];
  const factorBytes: number[] = [];
  for (const { section, heads, firstDim, width, dtype } of partsOf(layer, storage)) {
    const elements = new Map<number, number>();
    const factors: number[] = [];
    let count = 0;
    const line = 256 / BITS[dtype];
    for (let t = 0; t < blockTokens; t++) {
      for (const [h, head] of heads.entries()) {
        const values = Array.from({ length: width }, (_, i) => value(section, block * blockTokens + t, head, firstDim + i));
        const coded = dtype === 'int8' || dtype === 'int4' ? headCodes(values, dtype) : undefined;
        if (coded !== undefined) factors[layout === 'NHD' ? t * heads.length + h : h * blockTokens + t] = coded.factor;
        for (let d = 0; d < width; d++) {
          const column = h * width + d;
          const place = {
            NHD: (t * heads.length + h) * width + d,
            HND: (h * blockTokens + t) * width + d,
            NZ: (Math.floor(column / line) * blockTokens + t) * line + (column % line),
          }[layout];
          const bits =
            coded === undefined
              ? numberBits(values[d] as number, dtype as 'f32', scale)
              : (coded.codes[d] as number) & (2 ** BITS[dtype] - 1);
          elements.set(place, bits);
          count = Math.max(count, place + 1);
        }
      }
    }
    if (layout === 'NZ') count = Math.ceil((heads.length * width) / line) * line * blockTokens;
    const perByte = 8 / BITS[dtype];
    for (let i = 0; i < count; i += Math.max(1, perByte)) {
      if (perByte > 1) bytes.push((elements.get(i) ?? 0) | ((elements.get(i + 1) ?? 0) << 4));
      else for (let b = 0; b < BITS[dtype] / 8; b++) bytes.push(((elements.get(i) ?? 0) >>> (8 * b)) & 255);
    }
    for (const factor of factors) {
      view.setFloat32(0, factor, true);
      for (let b = 0; b < 4; b++) factorBytes.push(view.getUint8(b));
    }
  }
  const page = [...bytes, ...factorBytes];
  const plain = layout === 'NHD' && storage.shards.count === 1 && storage.latent === undefined && BITS[storage.dtype] >= 16;
  if (!plain) while (page.length % 64 !== 0) page.push(0);
  return Uint8Array.from(page);
}

/** Blocks in wire order: token after token, each part's numbers and then its factors. */
export function plainWire(
  layer: LayerGeometry,
  form: Pick<KvStorage, 'dtype' | 'latent' | 'scale'>,
  blockTokens: number,
  block: number,
  value: NumberOf,
): Uint8Array {
  const shards = { count: 1, index: 0 };
  const bytes: number[] = [];
  for (const part of partsOf(layer, { ...form, shards })) {
    for (let t = 0; t < blockTokens; t++) {
      const own: NumberOf = (section, token, head, dim) => value(section, token + block * blockTokens + t, head, dim);
      // one token of one part is a page of one token in NHD
      const only = layer.kind === 'full' ? part.section : part.firstDim === 0 ? 0 : 1;
      const page = tokenRow(layer, { ...form, layout: 'NHD', blockTokens: 1, shards }, own, only);
      bytes.push(...page);
    }
  }
  return Uint8Array.from(bytes);
}

function tokenRow(layer: LayerGeometry, storage: KvStorage, value: NumberOf, index: number): number[] {
  const part = partsOf(layer, storage)[index] as PlainPart;
  const bytes: number[] = [];
  const factors: number[] = [];
  for (const head of part.heads) {
    const values = Array.from({ length: part.width }, (_, i) => value(part.section, 0, head, part.firstDim + i));
    if (part.dtype === 'int8' || part.dtype === 'int4') {
      const { codes, factor } = headCodes(values, part.dtype);
      view.setFloat32(0, factor, true);
      for (let b = 0; b < 4; b++) factors.push(view.getUint8(b));
      if (part.dtype === 'int8') bytes.push(...codes.map((code) => code & 255));
      else
        for (let i = 0; i < codes.length; i += 2)
          bytes.push(((codes[i] as number) & 15) | (((codes[i + 1] as number) & 15) << 4));
    } else {
      for (const v of values) {
        const bits = numberBits(v, part.dtype, storage.scale ?? 1);
        for (let b = 0; b < BITS[part.dtype] / 8; b++) bytes.push((bits >>> (8 * b)) & 255);
      }
    }
  }
  return [...bytes, ...factors];
}
