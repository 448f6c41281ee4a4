/** Runs one conversion job over native memory. Called in a worker thread only. */
import { viewAddress } from '@causeway/ort';
import { BLOCK, type ConvertJob, type SourceRows } from './convert-job.ts';
import { repackQ4, repackQ8 } from './repack.ts';
import { widenRow } from './widen.ts';

const QUANT_BLOCK = 32;

function sourceBytes(source: SourceRows): Uint8Array {
  const block = BLOCK[source.type];
  return viewAddress(source.address, ((source.rows * source.columns) / block.elements) * block.bytes);
}

function floats(address: bigint, length: number): Float32Array {
  const bytes = viewAddress(address, length * 4);
  return new Float32Array(bytes.buffer, bytes.byteOffset, length);
}

function widenRows(job: Extract<ConvertJob, { kind: 'f32' }>): void {
  const { rows, columns, type } = job.source;
  const source = sourceBytes(job.source);
  if (job.targetStride === columns) return widenRow(type, source, floats(job.target, rows * columns));
  const rowBytes = source.byteLength / rows;
  const target = floats(job.target, (rows - 1) * job.targetStride + columns);
  for (let row = 0; row < rows; row++) {
    const out = target.subarray(row * job.targetStride, row * job.targetStride + columns);
    widenRow(type, source.subarray(row * rowBytes, (row + 1) * rowBytes), out);
  }
}

function rotary(job: Extract<ConvertJob, { kind: 'rotary' }>): void {
  const width = job.frequencies.length;
  const cos = floats(job.cos, job.positions * width);
  const sin = floats(job.sin, job.positions * width);
  for (let position = 0, at = 0; position < job.positions; position++) {
    for (let i = 0; i < width; i++, at++) {
      const angle = position * (job.frequencies[i] ?? 0);
      cos[at] = Math.cos(angle) * job.factor;
      sin[at] = Math.sin(angle) * job.factor;
    }
  }
}

/** Does what the job says. Throws when a view cannot be made. */
export function runJob(job: ConvertJob): void {
  switch (job.kind) {
    case 'f32':
      return widenRows(job);
    case 'rotary':
      return rotary(job);
    case 'nbits4': {
      const blocks = (job.source.rows * job.source.columns) / QUANT_BLOCK;
      const offsets = job.offsets === undefined ? undefined : floats(job.offsets, blocks);
      return repackQ4(sourceBytes(job.source), viewAddress(job.quants, blocks * 16), floats(job.scales, blocks), offsets);
    }
    case 'nbits8': {
      const blocks = (job.source.rows * job.source.columns) / QUANT_BLOCK;
      return repackQ8(sourceBytes(job.source), viewAddress(job.quants, blocks * 32), floats(job.scales, blocks));
    }
  }
}
