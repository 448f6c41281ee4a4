import { ServiceError } from '@causeway/errors';
import { failpoint } from '@causeway/failpoints';
import { deadlineSignal } from '@causeway/lifecycle';
import type { workerV1 } from '@causeway/proto';
import type { WorkerRecord } from '@causeway/registry';
import type { AnswerPiece } from '../answer/answer.ts';
import type { Choices } from '../answer/choices.ts';
import type { RequestContext } from '../request-context.ts';
import type { RouterParts } from '../router-parts.ts';
import { nextTurn } from '../turn.ts';
import { needOf } from '../workers/plan.ts';
import type { Places } from '../workers/dispatcher.ts';
import type { Attempt } from './attempt.ts';
import type { AttemptEvent } from './events.ts';
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

/** A prefill worker whose connection failed may have sent everything: so long its commit is waited for. */
const COMMIT_GRACE_MS = 250;
/** While a prompt is read, how often a quiet attempt looks whether its workers still renew their leases. */
const LEASE_LOOK_MS = 1_000;
/** After the last token, how long its workers' last words are waited for; only the report needs them. */
const LAST_WORDS_MS = 250;

/** Time that a decode step may take while tokens are replayed, which gives no event. */
const REPLAYED_TOKEN_MS = 50;

/** What one attempt has seen so far. */
interface Progress {
  /** The prefill worker's stream has ended, well or not. */
  prefillDone: boolean;
  /** The decode worker has said `finished`. */
  decodeDone: boolean;
  /** performance.now() at which a lost prefill worker counts as lost before commit. */
  prefillLostAt: number | undefined;
  /** The decode worker was told to prefill by itself: nothing that comes of the transfer matters any more. */
  recomputing: boolean;
  /** performance.now() at which the last event came. */
  lastEventAt: number;
  /** Milliseconds of silence after which a due token counts as lost; longer while known tokens are replayed. */
  hangMs: number;
}

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
  const local = attempt.options.prefill === undefined;
  const progress: Progress = {
    prefillDone: local,
    decodeDone: false,
    prefillLostAt: undefined,
    recomputing: local,
    lastEventAt: performance.now(),
    hangMs: router.config.hangMs + attempt.replayedTokens * REPLAYED_TOKEN_MS,
  };
  for (;;) {
    await nextTurn();
    const event = await nextEvent(ctx, choices, attempt, progress, router);
    const failure = takeEvent(event, ctx, choices, attempt, places, progress, router);
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
      if (choices.report.committed) await lastWords(ctx, choices, attempt, progress);
      return { kind: 'finished' };
    }
    for (const choice of ended) attempt.stopChoice(choice);
    if (failure !== undefined) return { kind: 'lost', failure };
    if (isIncomplete(choices, progress)) return { kind: 'lost', failure: incomplete(choices, attempt) };
  }
}

type FollowEvent = AttemptEvent | { kind: 'quiet' };

/** The next event, or `quiet` when it is time to look at what is overdue. */
async function nextEvent(
  ctx: RequestContext,
  choices: Choices,
  attempt: Attempt,
  progress: Progress,
  router: RouterParts,
): Promise<FollowEvent> {
  const waitMs = patience(choices, progress, router);
  if (attempt.events.size > 0) {
    return (await attempt.events.shift(ctx.signal)) ?? { kind: 'quiet' };
  }
  using limit = deadlineSignal(waitMs, ctx.signal);
  try {
    return (await attempt.events.shift(limit.signal)) ?? { kind: 'quiet' };
  } catch (error) {
    if (ctx.signal.aborted) throw error;
    return { kind: 'quiet' };
  }
}

/** Milliseconds to wait for the next event before `overdue` has a look. */
function patience(choices: Choices, progress: Progress, router: RouterParts): number {
  const { stallMs } = router.config;
  const { hangMs } = progress;
  const now = performance.now();
  if (progress.prefillLostAt !== undefined) return Math.max(0, progress.prefillLostAt - now);
  const quietMs = now - progress.lastEventAt;
  // Before the KV is there no token is due: only what the registry says of the workers is looked at.
  if (!choices.report.committed) return Math.max(stallMs - quietMs, LEASE_LOOK_MS);
  return Math.max(0, quietMs < stallMs ? stallMs - quietMs : Math.min(stallMs, hangMs - quietMs));
}

/** Notes an event; gives the failure when the attempt is lost by it. */
function takeEvent(
  event: FollowEvent,
  ctx: RequestContext,
  choices: Choices,
  attempt: Attempt,
  places: Places,
  progress: Progress,
  router: RouterParts,
): AttemptFailure | undefined {
  if (event.kind !== 'quiet') progress.lastEventAt = performance.now();
  switch (event.kind) {
    case 'first_token':
      choices.offer(event.token, attempt.number);
      return undefined;
    case 'token':
      progress.hangMs = router.config.hangMs;
      choices.offer(event.token, attempt.number);
      return undefined;
    case 'prompt_scores':
      choices.scores?.offer(event.position, event.tokens);
      return undefined;
    case 'sent':
      progress.prefillDone = true;
      choices.report.sent(event.report);
      places.releasePrefill();
      return undefined;
    case 'kv_ready':
      progress.prefillLostAt = undefined;
      choices.report.ready(event.report);
      ctx.log.debug({ ...event.report }, 'KV is ready');
      return undefined;
    case 'finished':
      progress.decodeDone = true;
      choices.report.preemptions += event.preemptions;
      return undefined;
    case 'kv_failed':
    case 'prefill_failed':
      return prefillFailed(event.error, ctx, choices, attempt, places, progress, router);
    case 'decode_failed':
      return { worker: attempt.options.decode, error: event.error };
    case 'quiet':
      return overdue(ctx, choices, attempt, places, progress, router);
    case 'ticket':
    case 'reserved':
    case 'admitted':
    case 'started':
      return undefined;
  }
}

/**
 * A prefill worker is lost. After the commit that is nothing; before it, another one starts over when there is one and no token
 * is out, else the decode worker prefills what it reserved.
 */
function prefillFailed(
  error: ServiceError,
  ctx: RequestContext,
  choices: Choices,
  attempt: Attempt,
  places: Places,
  progress: Progress,
  router: RouterParts,
): AttemptFailure | undefined {
  const { prefill } = attempt.options;
  if (prefill === undefined) return undefined;
  progress.prefillDone = true;
  places.releasePrefill();
  if (error.reason === 'worker_lost') router.directory.remove(prefill);
  ctx.log.warn({ err: error, workerId: prefill.id, committed: choices.report.committed }, 'the prefill or its transfer failed');
  if (choices.report.committed || progress.recomputing) return undefined;
  if (error.reason === 'worker_lost') {
    progress.prefillLostAt = performance.now() + COMMIT_GRACE_MS;
    return undefined;
  }
  return startOver(error, prefill, ctx, choices, attempt, progress, router);
}

/** Asks the decode worker to recompute (no failure), or gives the attempt up for one with another prefill worker. */
function startOver(
  error: ServiceError,
  prefill: WorkerRecord,
  ctx: RequestContext,
  choices: Choices,
  attempt: Attempt,
  progress: Progress,
  router: RouterParts,
): AttemptFailure | undefined {
  progress.prefillLostAt = undefined;
  const refused = error.retry === 'never' && error.code === 'invalid_argument';
  choices.avoid.add(prefill.incarnation);
  if (refused || (choices.emittedTokens === 0 && router.dispatcher.canPrefillElsewhere(needOf(choices)))) {
    return { worker: prefill, error };
  }
  ctx.log.info({ workerId: attempt.options.decode.id }, 'the decode worker prefills the prompt itself');
  progress.recomputing = true;
  attempt.recompute();
  return undefined;
}

function isRegistered({ incarnation }: WorkerRecord, router: RouterParts): boolean {
  return router.directory.workers().some((worker) => worker.incarnation === incarnation);
}

/** Nothing was heard for a while. Once the KV is there a token is due; before, a worker is lost when its lease has ended. */
function overdue(
  ctx: RequestContext,
  choices: Choices,
  attempt: Attempt,
  places: Places,
  progress: Progress,
  router: RouterParts,
): AttemptFailure | undefined {
  const { decode, prefill } = attempt.options;
  if (progress.prefillLostAt !== undefined && prefill !== undefined) {
    if (performance.now() < progress.prefillLostAt) return undefined;
    return startOver(lost(prefill, 'lost before its KV was committed'), prefill, ctx, choices, attempt, progress, router);
  }
  const quietMs = performance.now() - progress.lastEventAt;
  const { stallMs } = router.config;
  if (quietMs < stallMs) return undefined;
  const silent = `silent for ${Math.round(quietMs)} ms`;
  const { committed } = choices.report;
  if (!isRegistered(decode, router)) return { worker: decode, error: lost(decode, `${silent}, and its lease has ended`) };
  if (committed && quietMs >= progress.hangMs) return { worker: decode, error: lost(decode, `${silent} while a token was due`) };
  if (committed || prefill === undefined || progress.prefillDone || isRegistered(prefill, router)) return undefined;
  return prefillFailed(lost(prefill, `${silent}, and its lease has ended`), ctx, choices, attempt, places, progress, router);
}

/** Everybody who could give the token that is due has said his last word, or a later one. */
function isIncomplete(choices: Choices, progress: Progress): boolean {
  return progress.prefillDone && (progress.decodeDone || choices.hasGap);
}

function incomplete(choices: Choices, attempt: Attempt): AttemptFailure {
  const { decode } = attempt.options;
  return { worker: decode, error: lost(decode, `token ${choices.open[0]?.[1].emitted.length} never came`) };
}

function lost(worker: WorkerRecord, what: string): ServiceError {
  return new ServiceError(`worker ${worker.id}: ${what}`, { code: 'unavailable', reason: 'worker_lost', retry: 'other' });
}

/** The answer is complete; the workers' counts make the report complete. */
async function lastWords(ctx: RequestContext, choices: Choices, attempt: Attempt, progress: Progress): Promise<void> {
  using limit = deadlineSignal(LAST_WORDS_MS, ctx.signal);
  while (!progress.decodeDone || !progress.prefillDone) {
    const event = await attempt.events.shift(limit.signal).catch(() => undefined);
    if (event === undefined) return;
    if (event.kind === 'sent') choices.report.sent(event.report);
    if (event.kind === 'finished') choices.report.preemptions += event.preemptions;
    progress.prefillDone ||= event.kind === 'sent' || event.kind === 'prefill_failed';
    progress.decodeDone ||= event.kind === 'finished' || event.kind === 'decode_failed';
  }
}
