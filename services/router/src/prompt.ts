import { randomBytes } from 'node:crypto';
import { fail } from '@causeway/errors';
import type { ChatMessage, PlacementWish } from '@causeway/openai';
import { Answer } from './answer/answer.ts';
import type { RequestContext } from './request-context.ts';
import type { RouterParts } from './router-parts.ts';
import { servedContext } from './workers/directory.ts';

export type PromptInput =
  | { readonly kind: 'chat'; readonly messages: readonly ChatMessage[] }
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'tokens'; readonly ids: readonly number[] };

/** A request for an answer, whichever API it came by; sampling values are checked. */
export interface GenerateInput {
  /** Undefined: the only model served. */
  readonly model: string | undefined;
  readonly prompt: PromptInput;
  /** Undefined: the deployment's default. */
  readonly maxTokens: number | undefined;
  readonly temperature: number;
  readonly topP: number;
  readonly topK: number;
  readonly seed: bigint | undefined;
  readonly stop: readonly string[];
  readonly placement: PlacementWish | undefined;
}

/** @throws ServiceError `not_found/unknown_model` naming the model that is served. */
export function requireModel(model: string | undefined, served: string): void {
  if (model === undefined || model === served) return;
  fail('not_found', 'unknown_model', `the model '${model}' does not exist here; served: ${served}`, { field: 'model' });
}

/**
 * The prompt's token ids, made off the event loop.
 * @throws ServiceError `unknown_model`, `empty_prompt`, `invalid_token`, or what the chat template refuses.
 */
export async function tokenize(
  ctx: RequestContext,
  input: Pick<GenerateInput, 'model' | 'prompt'>,
  router: Pick<RouterParts, 'model' | 'tokenizer'>,
): Promise<ArrayLike<number>> {
  requireModel(input.model, router.model);
  const { prompt } = input;
  const { tokenizer } = router;
  switch (prompt.kind) {
    case 'chat':
      return notEmpty(await tokenizer.encodeChat(prompt.messages, ctx.signal), 'messages');
    case 'text':
      return notEmpty(await tokenizer.encode(prompt.text, ctx.signal), 'prompt');
    case 'tokens': {
      const bad = prompt.ids.findIndex((id) => !(id >= 0 && id < tokenizer.vocabSize));
      if (bad === -1) return notEmpty(prompt.ids, 'prompt');
      const message = `token id ${prompt.ids[bad]} at position ${bad} is not in the vocabulary of ${tokenizer.vocabSize} tokens`;
      return fail('invalid_argument', 'invalid_token', message, { field: `prompt[${bad}]` });
    }
  }
}

function notEmpty(ids: ArrayLike<number>, field: string): ArrayLike<number> {
  if (ids.length > 0) return ids;
  fail('invalid_argument', 'empty_prompt', 'the prompt has no tokens', { field });
}

/**
 * Fixes what every attempt at this answer shares: limits by the context length, the seed, the detokenizer.
 * @throws ServiceError `no_workers`, `prompt_too_long` with both lengths.
 */
export function beginAnswer(input: GenerateInput, promptIds: ArrayLike<number>, router: RouterParts): Answer {
  const context = servedContext(router.directory.workers(), router.model);
  if (context === undefined) {
    fail('unavailable', 'no_workers', `no decode worker serves ${router.model} now`, { retry: 'same', retryAfterSeconds: 2 });
  }
  if (promptIds.length >= context) {
    fail(
      'invalid_argument',
      'prompt_too_long',
      `the prompt has ${promptIds.length} tokens; the context of ${router.model} holds ${context} with the answer`,
      { field: input.prompt.kind === 'chat' ? 'messages' : 'prompt' },
    );
  }
  const left = context - promptIds.length;
  return new Answer({
    model: router.model,
    promptIds: Array.from(promptIds),
    maxTokens: Math.min(input.maxTokens ?? router.config.defaultMaxTokens ?? left, left),
    sampling: {
      temperature: input.temperature,
      topP: input.topP,
      topK: input.topK,
      seed: input.seed ?? randomBytes(8).readBigUInt64LE(),
    },
    stop: input.stop,
    placement: input.placement,
    detokenizer: router.tokenizer.decodeStream(),
  });
}
