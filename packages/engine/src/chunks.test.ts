import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LEAST_CHUNK_TOKENS, nextChunk } from './chunks.ts';

function split(total: number, size: number): number[] {
  const chunks: number[] = [];
  for (let done = 0; done < total; done += chunks.at(-1) ?? 0) chunks.push(nextChunk(done, total, size));
  return chunks;
}

describe('nextChunk', () => {
  it('splits 513 as 511 + 2', () => expect(split(513, 512)).toEqual([511, 2]));

  it('covers the prompt in chunks of at most `size`, none of a single token unless the prompt is one', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 3000 }), fc.integer({ min: LEAST_CHUNK_TOKENS, max: 600 }), (total, size) => {
        const chunks = split(total, size);
        expect(chunks.reduce((sum, chunk) => sum + chunk, 0)).toBe(total);
        expect(chunks.every((chunk) => chunk <= size && (chunk > 1 || total === 1))).toBe(true);
      }),
    );
  });
});
