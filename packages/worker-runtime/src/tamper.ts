import type { KvDescriptor } from '@causeway/kv';
import type { Tamper } from '@causeway/kv-transport';

/**
 * Flips the sign bit of every byte-group's highest byte in the first bytes of an object: layer 0's keys (or latents) of its
 * first tokens, since an object begins with layer 0. Only for the test that proves decode reads what was transferred.
 */
export function keyOfLayerZero(descriptor: KvDescriptor): Tamper {
  const elementBytes = descriptor.storage.dtype === 'f32' ? 4 : 2;
  const layer = descriptor.layers[0];
  const width = layer === undefined ? 0 : layer.kind === 'full' ? layer.kvHeads * layer.headDimK : layer.rank + layer.ropeDim;
  const keyBytes = width * elementBytes;
  return (raw, { objectOffset }) => {
    const end = Math.min(raw.length, Math.max(0, keyBytes - objectOffset));
    for (let i = elementBytes - 1; i < end; i += elementBytes) raw[i] = (raw[i] as number) ^ 0x80;
  };
}
