/**
 * What a sequence's KV cache is (geometry, from the model) and how a worker stores it (storage, from the chip).
 * Versioned; travels with every registration and every transfer.
 */

/** Element types of stored KV. */
export const KV_DTYPES = ['f32', 'f16', 'bf16'] as const;
export type KvDtype = (typeof KV_DTYPES)[number];

/** Bytes of one element. */
export const DTYPE_BYTES: Readonly<Record<KvDtype, number>> = { f32: 4, f16: 2, bf16: 2 };

/** Order of dimensions inside a page, per layer and per K or V. NHD: [token, head, dimension]. */
export type KvLayout = 'NHD';

/** Geometry of one layer. */
export type LayerGeometry =
  | { kind: 'full'; kvHeads: number; headDimK: number; headDimV: number }
  | { kind: 'latent'; rank: number; ropeDim: number };

/** How pages hold KV. */
export interface KvStorage {
  dtype: KvDtype;
  layout: KvLayout;
  /** Tokens of one page. */
  blockTokens: number;
  shards: { count: number; index: number };
}

export const DESCRIPTOR_VERSION = 1;

export interface KvDescriptor {
  version: typeof DESCRIPTOR_VERSION;
  layers: readonly LayerGeometry[];
  storage: KvStorage;
}

/** What two workers must share before they may exchange a page: lower-case hex SHA-256 each. */
export interface Fingerprint {
  architecture: string;
  weights: string;
  tokenizer: string;
  rope: string;
  geometry: string;
}

/** The sections of one layer in pages and on the wire, in order: K then V, or the latent alone. Width in elements per token. */
export function layerSections(layer: LayerGeometry): readonly { name: 'k' | 'v' | 'latent'; heads: number; width: number }[] {
  return layer.kind === 'full'
    ? [
        { name: 'k', heads: layer.kvHeads, width: layer.kvHeads * layer.headDimK },
        { name: 'v', heads: layer.kvHeads, width: layer.kvHeads * layer.headDimV },
      ]
    : [{ name: 'latent', heads: 1, width: layer.rank + layer.ropeDim }];
}

/** Bytes of one token of one layer. */
export function layerTokenBytes(layer: LayerGeometry, dtype: KvDtype): number {
  return layerSections(layer).reduce((sum, section) => sum + section.width, 0) * DTYPE_BYTES[dtype];
}

/** Bytes of one token over all layers. */
export function tokenBytes(descriptor: Pick<KvDescriptor, 'layers' | 'storage'>): number {
  return descriptor.layers.reduce((sum, layer) => sum + layerTokenBytes(layer, descriptor.storage.dtype), 0);
}

/** Bytes of one page: `blockTokens` tokens of all layers. */
export function pageBytes(descriptor: Pick<KvDescriptor, 'layers' | 'storage'>): number {
  return tokenBytes(descriptor) * descriptor.storage.blockTokens;
}
