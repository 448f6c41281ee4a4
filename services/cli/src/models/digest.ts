import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';

/** What a file's bytes must hash to: SHA-256, or git's SHA-1 of a blob (`blob SIZE\0` and the bytes). */
export interface Digest {
  readonly algorithm: 'sha256' | 'git-sha1';
  /** Lower-case hex. */
  readonly hex: string;
}

/** A hash to feed with the file's bytes. @param size of the whole file: git's header has it */
export function beginDigest({ algorithm }: Pick<Digest, 'algorithm'>, size: number): Hash {
  return algorithm === 'sha256' ? createHash('sha256') : createHash('sha1').update(`blob ${size}\0`);
}

/** Feeds the first `bytes` bytes of a file to a hash. */
export async function digestStart(hash: Hash, path: string, bytes: number): Promise<void> {
  if (bytes === 0) return;
  for await (const chunk of createReadStream(path, { end: bytes - 1, highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
}
