/** Which codec carried how much of a transfer, and the digest over its parts. */
import { createHash } from 'node:crypto';
import type { KvCodec } from '@causeway/kv';
import type { kvV1 } from '@causeway/proto';
import { codecToProto } from './wire-types.ts';

export class CodecTally {
  readonly #codecs = new Map<KvCodec, { rawBytes: number; ms: number }>();

  /** Adds a part and what its codec took, ms. */
  add(codec: KvCodec, rawBytes: number, ms: number): void {
    const sum = this.#codecs.get(codec) ?? { rawBytes: 0, ms: 0 };
    this.#codecs.set(codec, { rawBytes: sum.rawBytes + rawBytes, ms: sum.ms + ms });
  }

  /** The codec that carried most bytes. */
  get main(): KvCodec {
    let main: KvCodec = 'none';
    let most = -1;
    for (const [codec, { rawBytes }] of this.#codecs) if (rawBytes > most) [main, most] = [codec, rawBytes];
    return main;
  }

  toProto(): kvV1.DecodeCost[] {
    return [...this.#codecs].map(([codec, { rawBytes, ms }]) => ({
      codec: codecToProto(codec),
      rawBytes: BigInt(rawBytes),
      microseconds: BigInt(Math.round(ms * 1000)),
    }));
  }
}

/** Manifest digest: SHA-256 over the CRC-32C values (u32 little-endian) of all raw parts in order. */
export function partsDigest(crcs: Uint32Array): Buffer {
  // every processor that ONNX Runtime is built for is little-endian
  return createHash('sha256')
    .update(new Uint8Array(crcs.buffer, crcs.byteOffset, crcs.byteLength))
    .digest();
}
