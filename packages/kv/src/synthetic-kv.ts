/** Numbers distributed like a KV cache, for tests: normal, every channel with its own mean and scale (as keys have). */
import type { FloatDtype } from './descriptor.ts';

/** `bytes` bytes of such numbers, token-major with 192 channels; the same for the same seed. */
export function syntheticKv(dtype: FloatDtype, bytes: number, seed = 1): Uint8Array {
  const out = new Uint8Array(bytes);
  const view = new DataView(out.buffer);
  const float = new DataView(new ArrayBuffer(4));
  const size = dtype === 'f32' ? 4 : 2;
  let state = seed >>> 0 || 1;
  const random = (): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 0x1_0000_0000;
  };
  const channels = Array.from({ length: 192 }, () => ({ mean: 2 * random() - 1, scale: 0.2 + 2 * random() }));
  for (let i = 0; i < Math.floor(bytes / size); i++) {
    const { mean, scale } = channels[i % channels.length] as { mean: number; scale: number };
    const normal = Math.sqrt(-2 * Math.log(random() + 1e-9)) * Math.cos(2 * Math.PI * random());
    float.setFloat32(0, mean + scale * normal, true);
    const bits = float.getUint32(0, true);
    if (dtype === 'f32') view.setUint32(4 * i, bits, true);
    else if (dtype === 'bf16') view.setUint16(2 * i, bits >>> 16, true);
    else view.setUint16(2 * i, halfBits(bits), true);
  }
  return out;
}

/** binary16 bits of a normal float32 (truncated; IEEE 754-2008, 3.4). */
function halfBits(bits: number): number {
  const exponent = ((bits >>> 23) & 0xff) - 127 + 15;
  if (exponent <= 0) return (bits >>> 16) & 0x8000;
  return ((bits >>> 16) & 0x8000) | (Math.min(exponent, 30) << 10) | ((bits >>> 13) & 0x3ff);
}
