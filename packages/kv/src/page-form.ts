/**
 * Where numbers and factors lie in a page in a chip's own storage: for each layer its parts one after the other (K then V; the latent;
 * latent then rotary part), each in the storage's layout, then the factors of those that have some: [token][head] in NHD, [head][token]
 * in HND and NZ. Layers begin at multiples of 64 bytes, but in storages that are in wire order one right after the other.
 *
 * Layouts are those of vLLM, vllm-ascend and vllm-mlu (docs/chips.md).
 */
import {
  DTYPE_BYTES,
  hasFactors,
  isWireOrder,
  keepsTokens,
  type KvDescriptor,
  type KvLayout,
  type KvStorage,
  type LayerGeometry,
} from './descriptor.ts';
import { FACTOR_BYTES, shardParts, type StoredPart } from './stored-parts.ts';

const LAYER_ALIGNMENT = 64;
/** Bytes of a line of the NZ layout. */
export const LINE_BYTES = 32;

/** A part in a page. */
export interface PagedPart extends StoredPart {
  layout: KvLayout;
  blockTokens: number;
  /** First byte of the numbers. */
  offset: number;
  /** First byte of the factors; undefined when there are none. */
  factors: number | undefined;
}

/** Numbers of a line in NZ. */
export function lineNumbers(part: Pick<StoredPart, 'dtype'>): number {
  return LINE_BYTES / DTYPE_BYTES[part.dtype];
}

/** Bytes of a part's numbers in a page, the padding of NZ included. */
export function partBytes(part: StoredPart, { layout, blockTokens }: Pick<KvStorage, 'layout' | 'blockTokens'>): number {
  const row = part.heads * part.width;
  const stored = layout === 'NZ' ? Math.ceil(row / lineNumbers(part)) * lineNumbers(part) : row;
  return stored * blockTokens * DTYPE_BYTES[part.dtype];
}

/** The parts of one layer from byte `start` of a page on, and the first byte after the layer. */
export function layerForm(layer: LayerGeometry, storage: KvStorage, start: number): { parts: PagedPart[]; end: number } {
  const { layout, blockTokens } = storage;
  let at = start;
  const parts = shardParts(layer, storage).map((part): PagedPart => {
    const offset = at;
    at += partBytes(part, storage);
    return { ...part, layout, blockTokens, offset, factors: undefined };
  });
  for (const part of parts) {
    if (!hasFactors(part.dtype)) continue;
    part.factors = at;
    at += part.heads * blockTokens * FACTOR_BYTES;
  }
  const alignment = isWireOrder(storage) ? 1 : LAYER_ALIGNMENT;
  return { parts, end: Math.ceil(at / alignment) * alignment };
}

/** Bytes of a layer in a page in the chip's own storage. */
export function nativeLayerBytes(layer: LayerGeometry, storage: KvStorage): number {
  return layerForm(layer, storage, 0).end;
}

/** The parts of every layer in a page; none for layers that keep no tokens. */
export function pageForm({ layers, storage }: Pick<KvDescriptor, 'layers' | 'storage'>): PagedPart[][] {
  let start = 0;
  return layers.map((layer) => {
    if (!keepsTokens(layer)) return [];
    const { parts, end } = layerForm(layer, storage, start);
    start = end;
    return parts;
  });
}
