import { fail } from '@causeway/errors';
import type { PagePool, PageSet } from '@causeway/kv';
import type { LoopTime } from './loop-time.ts';
import type { Generation } from './types.ts';

/**
 * Pages of several answers to one prompt. Whole blocks of the prompt are the same for all and only read: every answer's page set is a
 * fork that shares them. The block in which the prompt ends is copied, because each answer goes on in it; the prompt's own page of it
 * stays with the base until the last fork is gone. A prompt of P tokens with n answers takes ceil(P / block) pages and what each answer
 * has from floor(P / block) on.
 */

/** Pages to reserve: the prompt's and each answer's own, with `ahead(generation)` tokens to grow, or one where all together wouldn't fit. */
export function choicePages(
  generations: readonly Generation[],
  blockTokens: number,
  totalPages: number,
  ahead: (generation: Generation) => number,
): number {
  const { length } = promptOf(generations);
  const prompt = Math.ceil(length / blockTokens);
  const pages = (tokens: (generation: Generation) => number): number =>
    generations.reduce((sum, generation) => sum + ownPages(generation, blockTokens, tokens(generation)), prompt);
  const wanted = pages(ahead);
  return wanted <= totalPages ? wanted : pages(() => 1);
}

/**
 * Divides committed pages, reserved by `choicePages`, among the answers. Each gets what it needs for its known tokens and the next, and an
 * equal part of the rest. `base` keeps the prompt's pages; disposed, it gives them back when the last fork is gone.
 * @throws ServiceError `internal` when there are too few pages; nothing is forked then.
 */
export async function forkPages(
  base: PageSet,
  generations: readonly Generation[],
  { pool, time, blockTokens }: { pool: PagePool; time: LoopTime; blockTokens: number },
): Promise<PageSet[]> {
  const { length } = promptOf(generations);
  const shared = Math.floor(length / blockTokens);
  const least = generations.map((generation) => ownPages(generation, blockTokens, 1));
  const spare = base.pages.length - Math.ceil(length / blockTokens) - least.reduce((sum, pages) => sum + pages, 0);
  if (spare < 0) {
    fail(
      'invalid_argument',
      'internal',
      `${base.pages.length} pages are too few for ${generations.length} answers: ${-spare} more are needed`,
    );
  }
  using made = new DisposableStack();
  const forks: PageSet[] = [];
  for (const [i, pages] of least.entries()) {
    const more = Math.floor(spare / least.length) + (i < spare % least.length ? 1 : 0);
    const fork = made.use(base.fork(shared, pages + more));
    forks.push(fork);
    if (length % blockTokens === 0) continue;
    time.section('copy page', () => pool.bytes(fork.pages[shared] as number).set(pool.bytes(base.pages[shared] as number)));
    await time.breathe();
  }
  made.move();
  return forks;
}

/** Pages of an answer behind the prompt's whole blocks, with room for `ahead` tokens after those that are known. */
function ownPages({ promptIds, replayIds }: Generation, blockTokens: number, ahead: number): number {
  const shared = Math.floor(promptIds.length / blockTokens);
  return Math.max(1, Math.ceil((promptIds.length + replayIds.length + ahead) / blockTokens) - shared);
}

function promptOf([first]: readonly Generation[]): Uint32Array {
  if (first === undefined) fail('invalid_argument', 'internal', 'there is no answer to make room for');
  return first.promptIds;
}
