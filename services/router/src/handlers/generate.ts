import { failpoint } from '@causeway/failpoints';
import { linkSignals, merge } from '@causeway/lifecycle';
import type { Choices } from '../answer/choices.ts';
import { type AttemptEnd, follow, type PieceEvent, type PromptEvent } from '../attempt/follow.ts';
import { recover } from '../attempt/recover.ts';
import { openAttempt, reserved } from '../attempt/reserve.ts';
import { beginChoices, readPrompts, type RequestSource, seedOf } from '../prompt.ts';
import type { RequestFields } from '../request/request.ts';
import type { RequestContext } from '../request-context.ts';
import type { RouterParts } from '../router-parts.ts';
import { needOf, plan } from '../workers/plan.ts';

/** Prompts of one request that are answered at a time. */
const PROMPTS_AT_ONCE = 8;

/** What a request gives: that it can be served, pieces, the end. Choices count over all prompts: prompt * n + choice. */
export type AnswerEvent =
  | { readonly kind: 'accepted'; readonly fields: RequestFields; readonly echoes: readonly string[] }
  | PieceEvent
  | PromptEvent
  | { readonly kind: 'finished'; readonly prompts: readonly Choices[] };

/**
 * A request's whole way; both APIs take it.
 *
 *   admit      takes it in, or refuses: draining, queue_full
 *   read       form, limits, token ids, large ones off the event loop: bad_json, bad_request, unknown_model, prompt_too_long, no_workers
 *   begin      length of the answers and seeds
 *   answer     each prompt, a few at a time
 *
 * Pieces are made as fast as they are taken. The signal of `ctx` ends everything at once.
 */
export async function* generate(
  ctx: RequestContext,
  source: RequestSource,
  router: RouterParts,
): AsyncGenerator<AnswerEvent, void> {
  using _admitted = router.admission.admit();
  const prompted = await readPrompts(ctx, source, router);
  const { fields } = prompted;
  const { n } = fields.options;
  using _others = router.admission.admit(prompted.prompts.length - 1);
  yield { kind: 'accepted', fields, echoes: prompted.prompts.map(({ echo }) => echo) };
  const seed = seedOf(fields);
  const prompts = prompted.prompts.map((prompt) => beginChoices(prompted, prompt, seed, router));
  const [only] = prompts;
  if (only !== undefined && prompts.length === 1) yield* answerPrompt(ctx, only, 0, router);
  else {
    using all = linkSignals(ctx.signal);
    const each = { ...ctx, signal: all.signal };
    const sources = prompts.map((choices, index) => answerPrompt(each, choices, index * n, router));
    yield* merge(sources, { atOnce: PROMPTS_AT_ONCE, stop: () => all.abort() });
  }
  yield { kind: 'finished', prompts };
}

/**
 * Answers one prompt, all its choices together, from `firstChoice` on.
 *
 *   locate     what the workers hold of the prompt already (nothing, as yet)
 *   plan       prefill and decode worker, or decode worker alone; waits in line: no_workers, queue_full, no_capacity
 *   reserve    the Decode stream: a ticket for the KV, or the word that the prompt is prefilled there
 *   prefill    at the prefill worker, while finished pages travel; its first tokens go to the client at once
 *   follow     commit, decode, stream: the pieces of each choice in order, each once
 *   release    disposal: streams closed, places given back, whatever happened
 *   recover    after a loss the rest of the answers is tried again: worker_lost when attempts are used up
 */
async function* answerPrompt(
  ctx: RequestContext,
  choices: Choices,
  firstChoice: number,
  router: RouterParts,
): AsyncGenerator<PieceEvent | PromptEvent, void> {
  while (choices.pending) {
    const need = needOf(choices);
    let end: AttemptEnd;
    {
      using places = await plan(ctx, choices, need, router);
      using attempt = openAttempt(ctx, choices, places, router);
      const reservation = await reserved(ctx, attempt);
      if (reservation.kind === 'lost') {
        end = reservation;
      } else {
        await failpoint('reserved', ctx.id);
        if (reservation.kind === 'ticket') attempt.startPrefill(reservation.ticket);
        end = yield* follow(ctx, choices, firstChoice, attempt, places, router);
      }
    }
    if (end.kind === 'lost') await recover(ctx, choices, end.failure, router);
  }
}
