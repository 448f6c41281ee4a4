/**
 * What a sequence's KV cache is (geometry, from the model) and how a worker stores it (storage, from the chip).
 * Versioned; travels with every registration and every transfer.
 */

/** Element types that hold a number by themselves. */
export const FLOAT_DTYPES = ['f32', 'f16', 'bf16'] as const;
export type FloatDtype = (typeof FLOAT_DTYPES)[number];

/**
 * Element types of stored KV. f8e4m3 (OCP, no infinities) has one factor for everything, in the descriptor; int8 and int4 have an f32
 * factor for each token and head, kept beside the numbers. int4: two numbers a byte, the first in the low half.
 */
export const KV_DTYPES = ['f32', 'f16', 'bf16', 'f8e4m3', 'int8', 'int4'] as const;
export type KvDtype = (typeof KV_DTYPES)[number];

/** Bytes of one element, factors apart. */
export const DTYPE_BYTES: Readonly<Record<KvDtype, number>> = { f32: 4, f16: 2, bf16: 2, f8e4m3: 1, int8: 1, int4: 0.5 };

/** Whether numbers have a factor for each token and head beside them. */
export function hasFactors(dtype: KvDtype): dtype is 'int8' | 'int4' {
  return dtype === 'int8' || dtype === 'int4';
}

/**
 * Order of dimensions inside a page, per layer and per K or V. NHD: [token, head, dimension]. HND: [head, token, dimension].
 * NZ (fractal): [column, token, line]: heads and dimensions as one row, cut in lines of 32 bytes; the last line is padded with zeros.
 */
export const KV_LAYOUTS = ['NHD', 'HND', 'NZ'] as const;
export type KvLayout = (typeof KV_LAYOUTS)[number];

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
  dtype: FloatDtype;
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
  /**
   * Heads are dealt to `count` arenas, of which this is number `index`; fewer heads than arenas are repeated, latents always. `all`:
   * all of them are this worker's, and `index` is 0.
   */
  shards: { count: number; index: number; all?: true | undefined };
  /** MLA: latent and rotary part lie apart, and the rotary part of int8 and int4 stays bf16; left out: side by side. */
  latent?: 'split' | undefined;
  /** f8e4m3 only: what a stored number is multiplied with; left out: 1. */
  scale?: number | undefined;
}

/** How numbers travel: token after token, each with its factors. */
export type KvWireForm = Pick<KvStorage, 'dtype' | 'latent' | 'scale'>;

/** Element types that a sender may be told to send in, though they round. */
export const ROUNDED_WIRES = ['f16', 'bf16', 'int8', 'int4'] as const;
export type RoundedWire = (typeof ROUNDED_WIRES)[number];

/** Whether pages are in wire order, so that transfers need no conversion: token after token, heads in one arena. */
export function isWireOrder(storage: KvStorage): boolean {
  return storage.layout === 'NHD' && storage.shards.count === 1 && storage.latent === undefined && isFloat(storage.dtype);
}

/** Whether numbers of this type hold their value by themselves. */
export function isFloat(dtype: KvDtype): dtype is FloatDtype {
  return (FLOAT_DTYPES as readonly string[]).includes(dtype);
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

/** Numbers of a state. */
export function stateElements({ shape }: Pick<StateGeometry, 'shape'>): number {
  return shape.reduce((product, dim) => product * dim, 1);
}
