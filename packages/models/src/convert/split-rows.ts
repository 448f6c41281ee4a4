/** Cuts the conversion of a matrix into jobs. */
import { BLOCK, type ConvertJob, type SourceRows } from './convert-job.ts';

/** Rows of a job are cut so that it takes some 10 ms: progress, cancellation and threads get their turn. */
const JOB_ELEMENTS = 4 * 1024 * 1024;

/** Bytes that the rows take where they are stored. */
export function sourceBytes({ type, rows, columns }: SourceRows): number {
  const block = BLOCK[type];
  return ((rows * columns) / block.elements) * block.bytes;
}

/** A job for each of some rows: none takes long. */
export function split(source: SourceRows, job: (part: SourceRows, firstRow: number) => ConvertJob): ConvertJob[] {
  const rowBytes = sourceBytes({ ...source, rows: 1 });
  const step = Math.max(1, Math.floor(JOB_ELEMENTS / source.columns));
  const jobs: ConvertJob[] = [];
  for (let first = 0; first < source.rows; first += step) {
    const rows = Math.min(step, source.rows - first);
    jobs.push(job({ ...source, rows, address: source.address + BigInt(first * rowBytes) }, first));
  }
  return jobs;
}
