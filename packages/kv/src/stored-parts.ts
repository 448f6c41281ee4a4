/**
 * What a layer keeps of a token, as a storage cuts it: K and V, the latent whole, or latent and rotary part apart. Each part has its
 * own element type and covers some heads and some dimensions of a section.
 */
import {
  DTYPE_BYTES,
  hasFactors,
  type KvDtype,
  type KvStorage,
  type KvWireForm,
  type LayerGeometry,
  layerSections,
} from './descriptor.ts';

/** Bytes of a factor. */
export const FACTOR_BYTES = 4;

export interface StoredPart {
  /** Index into layerSections. */
  section: number;
  firstHead: number;
  heads: number;
  /** First dimension of a head, and how many. */
  firstDim: number;
  width: number;
  dtype: KvDtype;
}

/** The parts of a layer that hold all its heads, in wire order. */
export function storedParts(layer: LayerGeometry, form: KvWireForm): StoredPart[] {
  const { dtype } = form;
  if (layer.kind === 'latent' && form.latent === 'split' && layer.ropeDim > 0) {
    const { rank, ropeDim } = layer;
    const one = { section: 0, firstHead: 0, heads: 1 };
    return [
      { ...one, firstDim: 0, width: rank, dtype },
      { ...one, firstDim: rank, width: ropeDim, dtype: hasFactors(dtype) ? 'bf16' : dtype },
    ];
  }
  return layerSections(layer).map(({ heads, width }, section) => ({
    section,
    firstHead: 0,
    heads,
    firstDim: 0,
    width: width / heads,
    dtype,
  }));
}

/** Bytes of a part's numbers of one token, factors apart. */
export function partNumberBytes({ heads, width, dtype }: StoredPart): number {
  return heads * width * DTYPE_BYTES[dtype];
}

/** Bytes of a part's one token on the wire: its numbers, then its factors. */
export function partRowBytes(part: StoredPart): number {
  return partNumberBytes(part) + (hasFactors(part.dtype) ? part.heads * FACTOR_BYTES : 0);
}

/**
 * Heads of shard `index` of `count`: a share each, or, when there are fewer heads than shards, one that several shards hold.
 * undefined when they can't be dealt evenly.
 */
export function shardHeads(heads: number, { count, index }: KvStorage['shards']): { first: number; count: number } | undefined {
  if (heads % count === 0) return { first: (heads / count) * index, count: heads / count };
  if (count % heads === 0) return { first: Math.floor(index / (count / heads)), count: 1 };
  return undefined;
}

/** The parts of a layer that a storage holds in its own arena. Latents are whole in every shard. */
export function shardParts(layer: LayerGeometry, storage: KvStorage): StoredPart[] {
  return storedParts(layer, storage).map((part) => {
    const share = shardHeads(part.heads, storage.shards);
    return share === undefined ? part : { ...part, firstHead: share.first, heads: share.count };
  });
}

/** The storage of each arena of a worker: its own, or one for each shard where it has all of them. */
export function arenaStorages(storage: KvStorage): KvStorage[] {
  const { count, all } = storage.shards;
  if (all === undefined) return [storage];
  return Array.from({ length: count }, (_, index) => ({ ...storage, shards: { count, index } }));
}

/** Which heads of a layer a worker holds, from `first` up to `end`; latents have one. */
function heldHeads(layer: LayerGeometry, storage: KvStorage): { first: number; end: number } {
  const parts = arenaStorages(storage).flatMap((arena) => shardParts(layer, arena));
  return {
    first: Math.min(...parts.map(({ firstHead }) => firstHead)),
    end: Math.max(...parts.map(({ firstHead, heads }) => firstHead + heads)),
  };
}

/** What the one worker has to get and the other one doesn't hold; undefined when nothing is missing. */
export function missingHeads(layers: readonly LayerGeometry[], from: KvStorage, to: KvStorage): string | undefined {
  for (const [index, layer] of layers.entries()) {
    if (layer.kind !== 'full') continue;
    const [held, wanted] = [heldHeads(layer, from), heldHeads(layer, to)];
    if (held.first <= wanted.first && held.end >= wanted.end) continue;
    const name = ({ first, end }: typeof held) => `${first} to ${end - 1}`;
    return `the sender holds heads ${name(held)} of layer ${index}, the receiver needs ${name(wanted)}`;
  }
  return undefined;
}
