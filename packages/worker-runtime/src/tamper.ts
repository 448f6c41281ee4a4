import { DTYPE_BYTES, type KvDescriptor, layerSections } from '@causeway/kv';
import type { Tamper } from '@causeway/kv-transport';

/**
 * Flips the sign bit of every byte-group's highest byte in the first bytes of an object: layer 0's keys (or latents) of its
 * first tokens, where an object begins with layer 0. Only for the test that proves decode reads what was transferred.
 */
export function keyOfLayerZero(descriptor: KvDescriptor): Tamper {
  const elementBytes = Math.max(1, DTYPE_BYTES[descriptor.storage.dtype]);
  const [layer] = descriptor.layers;
  const keyBytes = (layer === undefined ? 0 : (layerSections(layer)[0]?.width ?? 0)) * elementBytes;
  return (raw, { content, objectOffset }) => {
    if (content.kind !== 'tokens' || content.firstLayer !== 0) return;
    const end = Math.min(raw.length, Math.max(0, keyBytes - objectOffset));
    for (let i = elementBytes - 1; i < end; i += elementBytes) raw[i] = (raw[i] as number) ^ 0x80;
  };
}
