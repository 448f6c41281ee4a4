/** Work for a conversion thread: plain data, memory by address. Rows of a job are independent of other rows. */

/** Storage types of weights that can be converted. */
export const CONVERTIBLE_TYPES = ['F32', 'F16', 'BF16', 'Q8_0', 'Q4_0', 'Q4_1'] as const;
export type ConvertibleType = (typeof CONVERTIBLE_TYPES)[number];

/** Elements and bytes of one storage block (GGUF: ggml-common.h block_q8_0, block_q4_0, block_q4_1). */
export const BLOCK: Readonly<Record<ConvertibleType, { elements: number; bytes: number }>> = {
  F32: { elements: 1, bytes: 4 },
  F16: { elements: 1, bytes: 2 },
  BF16: { elements: 1, bytes: 2 },
  Q8_0: { elements: 32, bytes: 34 },
  Q4_0: { elements: 32, bytes: 18 },
  Q4_1: { elements: 32, bytes: 20 },
};

/** Rows of a row-major matrix in memory, without gaps. */
export interface SourceRows {
  type: ConvertibleType;
  address: bigint;
  rows: number;
  columns: number;
}

export type ConvertJob =
  /** Widens to f32, row after row. */
  | { kind: 'f32'; source: SourceRows; target: bigint }
  /**
   * Repacks 4-bit blocks for MatMulNBits: quants [rows, columns/32, 16] with element 2i in the low nibble of byte i,
   * scales f32 [rows, columns/32]. For Q4_1 also offsets f32 [rows, columns/32] = m + 8d.
   */
  | { kind: 'nbits4'; source: SourceRows; quants: bigint; scales: bigint; offsets: bigint | undefined }
  /** Repacks Q8_0 for MatMulNBits with zero point 128: quants u8 [rows, columns/32, 32], scales f32. */
  | { kind: 'nbits8'; source: SourceRows; quants: bigint; scales: bigint }
  /** cos and sin of position * frequency, times `factor`: f32 [positions, frequencies] each. */
  | { kind: 'rotary'; frequencies: Float64Array; positions: number; factor: number; cos: bigint; sin: bigint };

/** Bytes that a job reads, or writes where it reads nothing: what progress counts. */
export function jobBytes(job: ConvertJob): number {
  if (job.kind === 'rotary') return job.positions * job.frequencies.length * 8;
  const block = BLOCK[job.source.type];
  return ((job.source.rows * job.source.columns) / block.elements) * block.bytes;
}
