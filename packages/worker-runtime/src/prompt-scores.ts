import type { PrefillListeners } from '@causeway/engine';
import type { workerV1 } from '@causeway/proto';

/** Tokens in one message: some 50 KiB with 20 of the likeliest each. */
const MESSAGE_TOKENS = 256;

/** Collects how likely a prompt's tokens were while it is read, for the messages that tell it. */
export class PromptScoreCollector {
  readonly #tokens: workerV1.PromptScore[] = [];

  readonly onScores: NonNullable<PrefillListeners['onScores']> = (_position, tokens) => {
    for (const { id, logprob, topLogprobs } of tokens) {
      this.#tokens.push({ id, logprob, topLogprobs: topLogprobs.map((top) => ({ id: top.id, logprob: top.logprob })) });
    }
  };

  /** All of them in order, none when nobody asked; the prompt's first token has no score. */
  *messages(): Generator<workerV1.PromptScores> {
    for (let at = 0; at < this.#tokens.length; at += MESSAGE_TOKENS) {
      yield { position: at + 1, tokens: this.#tokens.slice(at, at + MESSAGE_TOKENS) };
    }
  }
}
