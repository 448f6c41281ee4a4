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

/** Ends of the chunks in which a prompt of `total` tokens is read, `size` tokens at most each. */
export function chunkEnds(total: number, size: number): number[] {
  const ends: number[] = [];
  for (let done = 0; done < total; ends.push(done)) done += nextChunk(done, total, size);
  return ends;
}

/** The chunk size that an engine uses when this one is wished and its sequences have at most `maxContext` tokens. */
export function usedChunkTokens(wished: number, maxContext: number): number {
  return Math.max(LEAST_CHUNK_TOKENS, Math.min(wished, maxContext));
}
