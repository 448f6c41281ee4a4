/** Smallest chunk size that can be split without leaving a single token. */
export const LEAST_CHUNK_TOKENS = 4;

/**
 * Tokens of the next prefill chunk when `done` of `total` are read and a chunk has at most `size` (>= LEAST_CHUNK_TOKENS).
 * Never one token unless the prompt is one token: attention over a single token uses another kernel, whose bits differ, and
 * results must not depend on where a prompt was cut (513 tokens in chunks of 512 are 511 + 2).
 */
export function nextChunk(done: number, total: number, size: number): number {
  const left = total - done;
  if (left <= size) return left;
  return left - size === 1 ? size - 1 : size;
}
