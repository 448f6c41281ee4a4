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

/** Vectors of `width` numbers, one for every `ratio` whole tokens: compressed attention, keys of an indexer. */
export interface EntriesGeometry {
  /** What they are; unique in the layer. */
  name: string;
  /** Tokens of one entry; divides the block. */
  ratio: number;
  width: number;
}

/** Numbers of fixed shape that stand for all tokens so far: linear attention, convolution, a compressor's unfinished entry. */
export interface StateGeometry {
  /** Unique in the layer. */
  name: string;
  /** Of its own: recurrent state is often kept wider than KV. */
  dtype: KvDtype;
  shape: readonly number[];
}

/** What a layer keeps of each token: keys and values, the latent of MLA, or nothing. */
type TokenGeometry =
  | { kind: 'full'; kvHeads: number; headDimK: number; headDimV: number }
  | { kind: 'latent'; rank: number; ropeDim: number }
  | { kind: 'none' };

/** Geometry of one layer. Hybrid models mix all of it, also in one layer. */
export type LayerGeometry = TokenGeometry & {
  /** Only the last so many tokens are kept (sliding window); left out: all. */
  window?: number | undefined;
  entries?: readonly EntriesGeometry[] | undefined;
  states?: readonly StateGeometry[] | undefined;
};

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

/** What a layer keeps of a token, in order: K then V, the latent alone, or nothing. Width in elements per token. */
export function layerSections(layer: LayerGeometry): readonly { name: 'k' | 'v' | 'latent'; heads: number; width: number }[] {
  switch (layer.kind) {
    case 'full':
      return [
        { name: 'k', heads: layer.kvHeads, width: layer.kvHeads * layer.headDimK },
        { name: 'v', heads: layer.kvHeads, width: layer.kvHeads * layer.headDimV },
      ];
    case 'latent':
      return [{ name: 'latent', heads: 1, width: layer.rank + layer.ropeDim }];
    case 'none':
      return [];
  }
}

/** Whether a layer keeps all tokens. */
export function keepsTokens(layer: LayerGeometry): boolean {
  return layer.kind !== 'none' && layer.window === undefined;
}

/** What a layer has in every page, in order: the sections of its tokens, if it keeps them, then its entries. */
export function pagedSections(layer: LayerGeometry): readonly { ratio: number; width: number }[] {
  const tokens = keepsTokens(layer) ? layerSections(layer).map(({ width }) => ({ ratio: 1, width })) : [];
  return [...tokens, ...(layer.entries ?? [])];
}

/** Bytes of one token of one layer, as long as it is kept. */
export function layerTokenBytes(layer: LayerGeometry, dtype: KvDtype): number {
  return layerSections(layer).reduce((sum, section) => sum + section.width, 0) * DTYPE_BYTES[dtype];
}

/** Bytes of one layer in a page. */
export function layerBlockBytes(layer: LayerGeometry, { dtype, blockTokens }: KvStorage): number {
  return pagedSections(layer).reduce((sum, { ratio, width }) => sum + (blockTokens / ratio) * width, 0) * DTYPE_BYTES[dtype];
}

/** Bytes of one token over all layers that keep tokens. */
export function tokenBytes(descriptor: Pick<KvDescriptor, 'layers' | 'storage'>): number {
  const keeping = descriptor.layers.filter(keepsTokens);
  return keeping.reduce((sum, layer) => sum + layerTokenBytes(layer, descriptor.storage.dtype), 0);
}

/** Bytes of one page: what all layers keep of `blockTokens` tokens. */
export function pageBytes(descriptor: Pick<KvDescriptor, 'layers' | 'storage'>): number {
  return descriptor.layers.reduce((sum, layer) => sum + layerBlockBytes(layer, descriptor.storage), 0);
}

/** Numbers of a state. */
export function stateElements({ shape }: Pick<StateGeometry, 'shape'>): number {
  return shape.reduce((product, dim) => product * dim, 1);
}
