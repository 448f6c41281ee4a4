/** Work for a conversion thread: plain data, memory by address. Rows of a job are independent of other rows. */
import { QUANT_FORMATS, type QuantizedType } from './quant-formats.ts';

/** Storage types of weights that can be converted. */
export type ConvertibleType = 'F32' | 'F16' | 'BF16' | QuantizedType;

/** Elements and bytes of one storage block. */
export const BLOCK: Readonly<Record<ConvertibleType, { elements: number; bytes: number }>> = {
  F32: { elements: 1, bytes: 4 },
  F16: { elements: 1, bytes: 2 },
  BF16: { elements: 1, bytes: 2 },
  ...QUANT_FORMATS,
};

export const CONVERTIBLE_TYPES = Object.keys(BLOCK) as readonly ConvertibleType[];

/** Rows of a row-major matrix in memory, without gaps. */
export interface SourceRows {
  type: ConvertibleType;
  address: bigint;
  rows: number;
  columns: number;
}

export type QuantizedRows = SourceRows & { type: QuantizedType };

export type ConvertJob =
  /** Widens to f32, row after row. */
  | { kind: 'f32'; source: SourceRows; target: bigint }
  /** Repacks quantised blocks for MatMulNBits, as repack.ts says. */
  | { kind: 'nbits'; source: QuantizedRows; quants: bigint; scales: bigint; offsets: bigint | undefined }
  /** cos and sin of position * frequency, times `factor`: f32 [positions, frequencies] each. */
  | { kind: 'rotary'; frequencies: Float64Array; positions: number; factor: number; cos: bigint; sin: bigint };

/** Bytes that a job reads, or writes where it reads nothing: what progress counts. */
export function jobBytes(job: ConvertJob): number {
  if (job.kind === 'rotary') return job.positions * job.frequencies.length * 8;
  const block = BLOCK[job.source.type];
  return ((job.source.rows * job.source.columns) / block.elements) * block.bytes;
}
