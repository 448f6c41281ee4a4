import { failpoint } from '@causeway/failpoints';
import type { workerV1 } from '@causeway/proto';
import type { AnswerPiece } from '../answer/answer.ts';
import type { Choices } from '../answer/choices.ts';
import type { RequestContext } from '../request-context.ts';
import type { RouterParts } from '../router-parts.ts';
import { nextTurn } from '../turn.ts';
import type { Places } from '../workers/dispatcher.ts';
import type { Attempt } from './attempt.ts';
import { FollowedAttempt } from './followed-attempt.ts';
import type { AttemptFailure } from './reserve.ts';

/** A piece of an answer for the client. */
export interface PieceEvent {
  readonly kind: 'piece';
  /** Which of the request's answers. */
  readonly choice: number;
  readonly piece: AnswerPiece;
}

/** How likely the prompt of some answers is itself; comes before their pieces. */
export interface PromptEvent {
  readonly kind: 'prompt';
  /** The first of the answers to it. */
  readonly choice: number;
  readonly ids: readonly number[];
  readonly scores: readonly workerV1.PromptScore[];
}

/** How an attempt ended. */
export type AttemptEnd = { readonly kind: 'finished' } | { readonly kind: 'lost'; readonly failure: AttemptFailure };

/**
 * Follows an attempt to its end: gives each answer's pieces in order as tokens come, notes the commit, and decides what a lost
 * prefill worker means. Ends `finished` with the last answer's last piece, `lost` otherwise. Pieces
 * name their choices from `firstChoice` on.
 */
export async function* follow(
  ctx: RequestContext,
  choices: Choices,
  firstChoice: number,
  attempt: Attempt,
  places: Places,
  router: RouterParts,
): AsyncGenerator<PieceEvent | PromptEvent, AttemptEnd> {
  using followed = new FollowedAttempt({ ctx, choices, attempt, places, router });
  for (;;) {
    await nextTurn();
    const failure = followed.take(await followed.next());
    const scores = choices.scores?.take();
    if (scores !== undefined) yield { kind: 'prompt', choice: firstChoice, ids: choices.shared.promptIds, scores };
    const ended: number[] = [];
    for (const [choice, answer] of choices.scores?.told === false ? [] : choices.open) {
      for (let piece = answer.take(); piece !== undefined; piece = answer.take()) {
        yield { kind: 'piece', choice: firstChoice + choice, piece };
        await failpoint(piece.position === 0 ? 'after_first_token' : 'mid_decode', ctx.id);
      }
      if (answer.ended) ended.push(choice);
    }
    if (!choices.pending) {
      if (choices.report.committed) await followed.lastWords();
      return { kind: 'finished' };
    }
    for (const choice of ended) attempt.stopChoice(choice);
    const end = failure ?? followed.incomplete();
    if (end !== undefined) return { kind: 'lost', failure: end };
  }
}
