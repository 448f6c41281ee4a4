import { fail } from '@causeway/errors';
import { type KvDescriptor, type LayerGeometry, pageBytes } from '@causeway/kv';
import { cacheShape } from '@causeway/models';

const F32_BYTES = 4;

/** Bytes that one token takes in a slot: f32, K and V, or the latent once. */
export function slotTokenBytes(layers: readonly LayerGeometry[]): number {
  return layers.reduce((sum, layer) => {
    const { heads, width } = cacheShape(layer);
    return sum + heads * width * F32_BYTES * (layer.kind === 'latent' ? 1 : 2);
  }, 0);
}

/**
 * Splits a KV budget into slots (`maxSequences` for decoding and one for prefill, `maxContext` tokens each) and pages.
 * @throws ServiceError `bad_config` when the pages left can't hold one full context, with the budget that would do.
 */
export function planKvMemory(options: {
  budgetBytes: number;
  descriptor: KvDescriptor;
  maxSequences: number;
  maxContext: number;
}): { pageCount: number; slotBytes: number } {
  const { budgetBytes, descriptor, maxSequences, maxContext } = options;
  const slotBytes = (maxSequences + 1) * maxContext * slotTokenBytes(descriptor.layers);
  const onePage = pageBytes(descriptor);
  const pageCount = Math.floor((budgetBytes - slotBytes) / onePage);
  const needed = Math.ceil(maxContext / descriptor.storage.blockTokens);
  if (pageCount < needed) {
    fail(
      'invalid_argument',
      'bad_config',
      `a KV budget of ${budgetBytes} bytes is too small: ${maxSequences + 1} slots of ${maxContext} tokens take ${slotBytes} bytes and ` +
        `one context of pages ${needed * onePage}; raise CAUSEWAY_KV_BUDGET_BYTES to ${slotBytes + needed * onePage}, ` +
        'or lower CAUSEWAY_MAX_CONTEXT or CAUSEWAY_MAX_SEQUENCES',
    );
  }
  return { pageCount, slotBytes };
}
