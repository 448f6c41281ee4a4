/** Arithmetic on logits in tests. */
import type { SegmentRunner } from './segment-runner.ts';

/** Largest absolute difference; NaN anywhere gives NaN. */
export function largestDifference(a: Float32Array, b: Float32Array): number {
  if (a.length !== b.length) return Number.NaN;
  let largest = 0;
  for (let i = 0; i < a.length; i++) {
    const difference = Math.abs((a[i] ?? 0) - (b[i] ?? 0));
    if (!(difference <= largest)) largest = difference;
  }
  return largest;
}

export function argmax(row: Float32Array): number {
  let best = 0;
  for (let i = 1; i < row.length; i++) if ((row[i] ?? 0) > (row[best] ?? 0)) best = i;
  return best;
}

/** Natural log of the softmax of one row. */
export function logSoftmax(row: Float32Array): Float64Array {
  const values = Float64Array.from(row);
  const most = values.reduce((a, b) => Math.max(a, b));
  const sum = values.reduce((total, value) => total + Math.exp(value - most), 0);
  return values.map((value) => value - most - Math.log(sum));
}

/** Logits of every position of `ids`, computed in chunks of the given lengths; the last length repeats. */
export async function prefill(runner: SegmentRunner, ids: readonly number[], chunks: readonly number[]): Promise<Float32Array> {
  const parts: Float32Array[] = [];
  for (let past = 0, i = 0; past < ids.length; i++) {
    const chunk = ids.slice(past, past + (chunks[Math.min(i, chunks.length - 1)] ?? 1));
    parts.push(await runner.run({ ids: [chunk], past: [past] }));
    past += chunk.length;
  }
  const all = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** Greedy continuation of a prompt: the row of logits before each token. Forces `forced` tokens where given. */
export async function greedyRows(
  runner: SegmentRunner,
  prompt: readonly number[],
  forced: readonly number[],
): Promise<Float32Array[]> {
  const rows = [await runner.run({ ids: [prompt], past: [0], logitRows: [prompt.length - 1] })];
  for (const [i, id] of forced.slice(0, -1).entries()) rows.push(await runner.run({ ids: [[id]], past: [prompt.length + i] }));
  return rows;
}

/** The same rows from one prefill of prompt and continuation. */
export async function teacherForcedRows(
  runner: SegmentRunner,
  prompt: readonly number[],
  forced: readonly number[],
): Promise<Float32Array[]> {
  const ids = [...prompt, ...forced.slice(0, -1)];
  const logits = await runner.run({ ids: [ids], past: [0], logitRows: forced.map((_, i) => prompt.length - 1 + i) });
  const width = logits.length / forced.length;
  return forced.map((_, i) => logits.subarray(i * width, (i + 1) * width));
}
