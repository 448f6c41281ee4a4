/** Runs one conversion job over native memory. Called in a worker thread only. */
import { viewAddress } from '@causeway/ort';
import { BLOCK, type ConvertJob, type SourceRows } from './convert-job.ts';
import { packedForm, repack } from './repack.ts';
import { widen } from './widen.ts';

function sourceBytes(source: SourceRows): Uint8Array {
  const block = BLOCK[source.type];
  return viewAddress(source.address, ((source.rows * source.columns) / block.elements) * block.bytes);
}

function floats(address: bigint, length: number): Float32Array {
  const bytes = viewAddress(address, length * 4);
  return new Float32Array(bytes.buffer, bytes.byteOffset, length);
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
      return widen(job.source.type, sourceBytes(job.source), floats(job.target, job.source.rows * job.source.columns));
    case 'rotary':
      return rotary(job);
    case 'nbits': {
      const { source } = job;
      const { bits, group } = packedForm(source.type);
      const elements = source.rows * source.columns;
      const groups = elements / group;
      const offsets = job.offsets === undefined ? undefined : floats(job.offsets, groups);
      return repack(
        source.type,
        sourceBytes(source),
        viewAddress(job.quants, (elements * bits) / 8),
        floats(job.scales, groups),
        offsets,
      );
    }
  }
}
