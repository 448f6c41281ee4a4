/** How many bytes KV takes: a token, a page. */
import {
  DTYPE_BYTES,
  isWireOrder,
  keepsTokens,
  type KvDescriptor,
  type KvStorage,
  type KvWireForm,
  type LayerGeometry,
} from './descriptor.ts';
import { nativeLayerBytes } from './page-form.ts';
import { partRowBytes, storedParts } from './stored-parts.ts';

/**
 * What a layer has in every page that is in wire order: the sections of its tokens, if it keeps them, then its entries; bytes of one
 * token or entry each.
 */
export function pagedSections(layer: LayerGeometry, form: KvWireForm): readonly { ratio: number; bytes: number }[] {
  const tokens = keepsTokens(layer) ? storedParts(layer, form).map((part) => ({ ratio: 1, bytes: partRowBytes(part) })) : [];
  const entries = (layer.entries ?? []).map(({ ratio, width }) => ({ ratio, bytes: width * DTYPE_BYTES[form.dtype] }));
  return [...tokens, ...entries];
}

/** Bytes of one token of one layer in wire order, as long as it is kept. */
export function layerTokenBytes(layer: LayerGeometry, form: KvWireForm): number {
  return storedParts(layer, form).reduce((sum, part) => sum + partRowBytes(part), 0);
}

/** Bytes of one layer in a page in wire order. */
export function layerWireBytes(layer: LayerGeometry, form: KvWireForm & Pick<KvStorage, 'blockTokens'>): number {
  return pagedSections(layer, form).reduce((sum, { ratio, bytes }) => sum + (form.blockTokens / ratio) * bytes, 0);
}

/** Bytes of a page in wire order. */
export function wirePageBytes({ layers, storage }: Pick<KvDescriptor, 'layers' | 'storage'>): number {
  return layers.reduce((sum, layer) => sum + layerWireBytes(layer, storage), 0);
}

/** Bytes of one token over all layers that keep tokens. */
export function tokenBytes(descriptor: Pick<KvDescriptor, 'layers' | 'storage'>): number {
  const keeping = descriptor.layers.filter(keepsTokens);
  return keeping.reduce((sum, layer) => sum + layerTokenBytes(layer, descriptor.storage), 0);
}

/** Bytes of one page: what all layers keep of `blockTokens` tokens. */
export function pageBytes(descriptor: Pick<KvDescriptor, 'layers' | 'storage'>): number {
  const { layers, storage } = descriptor;
  if (isWireOrder(storage)) return wirePageBytes(descriptor);
  return layers.reduce((sum, layer) => sum + (keepsTokens(layer) ? nativeLayerBytes(layer, storage) : 0), 0);
}
