/** Names of the codecs, and their numbers on the wire (docs/wire.md). */
export const KV_CODECS = ['none', 'zstd', 'planes+zstd'] as const;
export type KvCodec = (typeof KV_CODECS)[number];

/** Codec numbers in frame headers. */
export const CODEC_NUMBERS: Readonly<Record<KvCodec, number>> = { none: 1, zstd: 2, 'planes+zstd': 3 };

/** The codec of a wire number; undefined when there is none. */
export function codecOfNumber(value: number): KvCodec | undefined {
  return KV_CODECS.find((codec) => CODEC_NUMBERS[codec] === value);
}
