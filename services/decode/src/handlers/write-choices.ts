import type { GeneratedToken } from '@causeway/engine';
import type { PageSet } from '@causeway/kv';
import { merge } from '@causeway/lifecycle';
import type { Worker, WorkerChoice } from '@causeway/worker-runtime';
import type { CommandInbox } from './command-inbox.ts';

/** A token and the answer that it belongs to. */
export interface ChoiceToken {
  index: number;
  token: GeneratedToken;
}

/** An answer to be written, and its first token where it is known. */
export interface BegunChoice extends WorkerChoice {
  first: GeneratedToken | undefined;
}

/**
 * Writes the answers to a prompt, all at the same time: the tokens after `first`, in order within each answer. Takes the pages over.
 * An answer that the router stops ends without a word.
 */
export async function* writeChoices(
  { engine }: Pick<Worker, 'engine'>,
  choices: readonly BegunChoice[],
  pages: PageSet,
  inbox: Pick<CommandInbox, 'stopped'>,
  signal: AbortSignal,
): AsyncGenerator<ChoiceToken, void> {
  using resources = new DisposableStack();
  resources.use(pages);
  const open = choices.filter(({ first }) => first?.finishReason === undefined);
  if (open.length === 0) return;
  const sets = await engine.fork(
    pages,
    open.map(({ generation }) => generation),
  );
  for (const set of sets) resources.use(set);
  // The sets hold what they share of it: what nobody has any more returns while others go on.
  if (sets.length > 1) pages[Symbol.dispose]();
  const stop = new DisposableStack();
  resources.use(stop);
  const streams = open.map(({ index, generation, first }, i) => {
    const tokens = engine.decode(generation, sets[i] as PageSet, first, signal)[Symbol.asyncIterator]();
    const end = (): void => void tokens.return?.();
    stop.defer(end);
    const stopped = inbox.stopped(index);
    stopped.addEventListener('abort', end, { once: true });
    if (stopped.aborted) end();
    return tagged(index, tokens);
  });
  const [only] = streams;
  if (only !== undefined && streams.length === 1) yield* only;
  else yield* merge(streams, { stop: () => stop.dispose() });
}

async function* tagged(index: number, tokens: AsyncIterator<GeneratedToken>): AsyncGenerator<ChoiceToken, void> {
  for (let next = await tokens.next(); next.done !== true; next = await tokens.next()) yield { index, token: next.value };
}
