import { fail } from '@causeway/errors';
import type { LayerGeometry } from '@causeway/kv';

/** GroupQueryAttention wants head sizes that are multiples of this. */
const HEAD_ALIGNMENT = 8;

/**
 * Slot shape of one layer's caches: past_k.<layer> and past_v.<layer> are f32 [B, heads, S, width].
 * A latent layer has one buffer for both; `width` is rank + ropeDim rounded up to a multiple of 8, and the columns past
 * rank + ropeDim are zero: pages and the wire never hold them.
 * @throws ServiceError `unsupported_format` for a layer that keeps no tokens
 */
export function cacheShape(layer: LayerGeometry): { heads: number; width: number } {
  if (layer.kind === 'none') return fail('unimplemented', 'unsupported_format', 'a layer that keeps no tokens has no slot');
  if (layer.kind === 'full') return { heads: layer.kvHeads, width: layer.headDimK };
  return { heads: 1, width: Math.ceil((layer.rank + layer.ropeDim) / HEAD_ALIGNMENT) * HEAD_ALIGNMENT };
}
