/** What references.json holds: llama.cpp's answers on the files of families.ts. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { join } from 'node:path';

export const REFERENCES = join(import.meta.dirname, 'references.json');

/** A greedy token, and the five likeliest with their log-probabilities. */
export interface Step {
  id: number;
  top: [id: number, logprob: number][];
}

export interface FamilyReference {
  /** Of the file, lower-case hex: another one would have another reference. */
  sha256: string;
  /** Ids of each of `TEXTS`, without the beginning-of-sequence token. */
  texts: number[][];
  /** Ids of the rendered chat with `CONTENT`. */
  chat: number[];
  /** The answer by the file's numbers in float32. */
  exact: Step[];
  /** The answer by the file as it is, with llama.cpp's rounded activations and f16 KV. */
  stored: Step[];
}

export async function sha256Of(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const part of createReadStream(path)) hash.update(part as Buffer);
  return hash.digest('hex');
}
