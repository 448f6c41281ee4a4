import { failpoint } from '@causeway/failpoints';
import type { FinishReasonName } from '@causeway/openai';
import type { Answer } from '../answer/answer.ts';
import { type AttemptEnd, follow, type PieceEvent } from '../attempt/follow.ts';
import { recover } from '../attempt/recover.ts';
import { openAttempt, reserved } from '../attempt/reserve.ts';
import { beginAnswer, readPrompt, type RequestSource } from '../prompt.ts';
import type { RequestFields } from '../request/request.ts';
import type { RequestContext } from '../request-context.ts';
import type { RouterParts } from '../router-parts.ts';
import { needOf, plan } from '../workers/plan.ts';

/** What an answer gives: that the request can be served, pieces, the end. */
export type AnswerEvent =
  | { readonly kind: 'accepted'; readonly fields: RequestFields }
  | PieceEvent
  | { readonly kind: 'finished'; readonly reason: FinishReasonName; readonly answer: Answer };

/**
 * A request's whole way; both APIs take it.
 *
 *   admit      takes it in, or refuses: draining, queue_full
 *   read       form, limits, token ids, large ones off the event loop: bad_json, bad_request, unknown_model, prompt_too_long, no_workers
 *   begin      length of the answer and seed
 *   locate     what the workers hold of the prompt already (nothing, as yet)
 *   plan       prefill and decode worker, or decode worker alone; waits in line: no_workers, queue_full, no_capacity
 *   reserve    the Decode stream: a ticket for the KV, or the word that the prompt is prefilled there
 *   prefill    at the prefill worker, while finished pages travel; its first token goes to the client at once
 *   follow     commit, decode, stream: the pieces in order, each once
 *   release    disposal: streams closed, places given back, whatever happened
 *   recover    after a loss the rest of the answer is tried again: worker_lost when attempts are used up
 *
 * Pieces are made as fast as they are taken. The signal of `ctx` ends everything at once.
 */
export async function* generate(
  ctx: RequestContext,
  source: RequestSource,
  router: RouterParts,
): AsyncGenerator<AnswerEvent, void> {
  using _admitted = router.admission.admit();
  const prompted = await readPrompt(ctx, source, router);
  yield { kind: 'accepted', fields: prompted.fields };
  const answer = beginAnswer(prompted, router);
  for (;;) {
    const need = needOf(answer);
    let end: AttemptEnd;
    {
      using places = await plan(ctx, answer, need, router);
      await using attempt = openAttempt(ctx, answer, places, router);
      const reservation = await reserved(ctx, attempt);
      if (reservation.kind === 'lost') {
        end = reservation;
      } else {
        await failpoint('reserved', ctx.id);
        if (reservation.kind === 'ticket') attempt.startPrefill(reservation.ticket);
        end = yield* follow(ctx, answer, attempt, places, router);
      }
    }
    if (end.kind === 'finished') {
      yield { kind: 'finished', reason: end.reason, answer };
      return;
    }
    await recover(ctx, answer, end.failure, router);
  }
}
