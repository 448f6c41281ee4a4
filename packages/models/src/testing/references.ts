/** Where reference checkpoints lie and how their answers are read, for tests. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '../../../..');

/** Folder of a reference outside the repository, and whether it is there. */
export function sharedFolder(path: string): { path: string; absent: boolean } {
  const folder = join(ROOT, '../shared', path);
  return { path: folder, absent: !existsSync(folder) };
}

/** Folder of the built-in model. */
export const TINY_MOE = join(ROOT, 'models/tiny-moe');

/** One sequence and the reference's logits at each of its positions. */
export interface TeacherForced {
  ids: number[];
  /** f32 [ids.length, vocabulary]. */
  logits: Float32Array;
}

/** Reads golden.safetensors: `ids` i64 [T] and `logits` f32 [T, V]. */
export function readTeacherForced(folder: string): TeacherForced {
  const file = readFileSync(join(folder, 'golden.safetensors'));
  const headerBytes = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString('utf8', 8, 8 + headerBytes)) as Record<string, { data_offsets: [number, number] }>;
  const data = (name: string): ArrayBuffer => {
    const [start, end] = header[name]?.data_offsets ?? [0, 0];
    return new Uint8Array(file.subarray(8 + headerBytes + start, 8 + headerBytes + end)).buffer;
  };
  return { ids: [...new BigInt64Array(data('ids'))].map(Number), logits: new Float32Array(data('logits')) };
}

export interface GreedyCase {
  prompt: number[];
  greedy: number[];
  /** Difference of the two best logits before each greedy token. */
  margins: number[];
}

/** Cases of a golden.json, in either of its two forms. */
export function readGreedyCases(folder: string): GreedyCase[] {
  type Either = {
    prompt?: number[];
    greedy?: number[];
    greedy_margin?: number[];
    prompt_ids?: number[];
    greedy_ids?: number[];
    margins?: number[];
  };
  const { cases } = JSON.parse(readFileSync(join(folder, 'golden.json'), 'utf8')) as { cases: Either[] };
  return cases.map((one) => ({
    prompt: one.prompt ?? one.prompt_ids ?? [],
    greedy: one.greedy ?? one.greedy_ids ?? [],
    margins: one.greedy_margin ?? one.margins ?? [],
  }));
}

/** The reference's best tokens with their log-probabilities, for each case and each greedy token. */
export function readTop5(folder: string): [id: number, logProbability: number][][][] {
  const { cases } = JSON.parse(readFileSync(join(folder, 'golden.json'), 'utf8')) as { cases: { top5: [number, number][][] }[] };
  return cases.map((one) => one.top5);
}
