/** How far each codec shrinks some KV bytes: for measurements and tests; computes on the calling thread. */
import { DTYPE_BYTES, type FloatDtype } from './descriptor.ts';
import type { KvCodec } from './codec.ts';
import { encodeBody } from './part-codec.ts';

/** Raw bytes over encoded bytes of each codec when `kv` is cut into parts of at most `partBytes` (default 1 MiB). */
export function kvRatio(kv: Uint8Array, dtype: FloatDtype, partBytes = 1 << 20): Record<KvCodec, number> {
  const elementBytes = DTYPE_BYTES[dtype] as 1 | 2 | 4;
  const encoded = { zstd: 0, 'planes+zstd': 0 };
  for (let start = 0; start < kv.length; start += partBytes) {
    const raw = kv.subarray(start, Math.min(kv.length, start + partBytes));
    const out = new Uint8Array(raw.length);
    for (const codec of ['zstd', 'planes+zstd'] as const) {
      encoded[codec] += encodeBody(codec, [raw], elementBytes, out) ?? raw.length;
    }
  }
  return { none: 1, zstd: kv.length / encoded.zstd, 'planes+zstd': kv.length / encoded['planes+zstd'] };
}
