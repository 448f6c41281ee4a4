/** What the events of an attempt mean: which workers have said their last word, what is overdue, and who is lost. */
import { ServiceError } from '@causeway/errors';
import { deadlineSignal } from '@causeway/lifecycle';
import type { WorkerRecord } from '@causeway/registry';
import type { Choices } from '../answer/choices.ts';
import type { RequestContext } from '../request-context.ts';
import type { RouterParts } from '../router-parts.ts';
import { needOf } from '../workers/plan.ts';
import type { Places } from '../workers/dispatcher.ts';
import type { Attempt } from './attempt.ts';
import type { AttemptEvent } from './events.ts';
import type { AttemptFailure } from './reserve.ts';

/** A prefill worker whose connection failed may have sent everything: so long its commit is waited for. */
const COMMIT_GRACE_MS = 250;
/** While a prompt is read, how often a quiet attempt looks whether its workers still renew their leases. */
const LEASE_LOOK_MS = 1_000;
/** After the last token, how long its workers' last words are waited for; only the report needs them. */
const LAST_WORDS_MS = 250;
/** Time that a decode step may take while tokens are replayed, which gives no event. */
const REPLAYED_TOKEN_MS = 50;

interface Followed {
  readonly ctx: RequestContext;
  readonly choices: Choices;
  readonly attempt: Attempt;
  readonly places: Places;
  readonly router: RouterParts;
}

/** An attempt with what has been seen of it so far. Disposing ends its timer. */
export class FollowedAttempt implements Disposable {
  readonly #of: Followed;
  /** The prefill worker's stream has ended, well or not. */
  #prefillDone: boolean;
  /** The decode worker has said `finished`. */
  #decodeDone = false;
  /** performance.now() at which a lost prefill worker counts as lost before commit. */
  #prefillLostAt: number | undefined;
  /** The decode worker was told to prefill by itself: nothing that comes of the transfer matters any more. */
  #recomputing: boolean;
  /** performance.now() at which the last event came. */
  #lastEventAt = performance.now();
  /** Milliseconds of silence after which a due token counts as lost; longer while known tokens are replayed. */
  #hangMs: number;
  /** performance.now() until which an event is waited for; infinite while none is. */
  #quietAt = Number.POSITIVE_INFINITY;
  /** When the timer ends, no later than that; infinite when there is none. */
  #timerAt = Number.POSITIVE_INFINITY;
  #timer: NodeJS.Timeout | undefined;

  constructor(of: Followed) {
    this.#of = of;
    const local = of.attempt.options.prefill === undefined;
    this.#prefillDone = local;
    this.#recomputing = local;
    this.#hangMs = of.router.config.hangMs + of.attempt.replayedTokens * REPLAYED_TOKEN_MS;
  }

  /** The next event, or `quiet` when it is time to look at what is overdue. Rejects with the reason for which the request ends meanwhile. */
  async next(): Promise<AttemptEvent> {
    const { events } = this.#of.attempt;
    if (events.size === 0) {
      this.#quietAt = performance.now() + this.#patience();
      if (this.#quietAt < this.#timerAt) this.#setTimer();
    }
    const event = await events.shift();
    this.#quietAt = Number.POSITIVE_INFINITY;
    return event ?? { kind: 'quiet' };
  }

  /** One timer serves many events: it is set again when it ends too early, not at each of them. */
  #setTimer(): void {
    clearTimeout(this.#timer);
    this.#timerAt = this.#quietAt;
    if (this.#quietAt === Number.POSITIVE_INFINITY) return;
    this.#timer = setTimeout(
      () => {
        const { events } = this.#of.attempt;
        if (performance.now() < this.#quietAt) return this.#setTimer();
        this.#timerAt = Number.POSITIVE_INFINITY;
        if (events.size === 0) events.tryPush({ kind: 'quiet' });
      },
      Math.max(0, this.#quietAt - performance.now()),
    ).unref();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }

  /** Milliseconds to wait for the next event before `overdue` has a look. */
  #patience(): number {
    const { choices, router } = this.#of;
    const { stallMs } = router.config;
    const now = performance.now();
    if (this.#prefillLostAt !== undefined) return Math.max(0, this.#prefillLostAt - now);
    const quietMs = now - this.#lastEventAt;
    // Before the KV is there no token is due: only what the registry says of the workers is looked at.
    if (!choices.report.committed) return Math.max(stallMs - quietMs, LEASE_LOOK_MS);
    return Math.max(0, quietMs < stallMs ? stallMs - quietMs : Math.min(stallMs, this.#hangMs - quietMs));
  }

  /** Notes an event; gives the failure when the attempt is lost by it. */
  take(event: AttemptEvent): AttemptFailure | undefined {
    const { ctx, choices, attempt, places, router } = this.#of;
    if (event.kind !== 'quiet') this.#lastEventAt = performance.now();
    switch (event.kind) {
      case 'first_token':
        choices.offer(event.token, attempt.number);
        return undefined;
      case 'token':
        this.#hangMs = router.config.hangMs;
        choices.offer(event.token, attempt.number);
        return undefined;
      case 'prompt_scores':
        choices.scores?.offer(event.position, event.tokens);
        return undefined;
      case 'sent':
        this.#prefillDone = true;
        choices.report.sent(event.report);
        places.releasePrefill();
        return undefined;
      case 'kv_ready':
        this.#prefillLostAt = undefined;
        choices.report.ready(event.report);
        ctx.log.debug({ ...event.report }, 'KV is ready');
        return undefined;
      case 'finished':
        this.#decodeDone = true;
        choices.report.finished(event);
        return undefined;
      case 'kv_failed':
      case 'prefill_failed':
        return this.#prefillFailed(event.error);
      case 'decode_failed':
        return { worker: attempt.options.decode, error: event.error };
      case 'quiet':
        return this.#overdue();
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
  #prefillFailed(error: ServiceError): AttemptFailure | undefined {
    const { ctx, choices, attempt, places, router } = this.#of;
    const { prefill } = attempt.options;
    if (prefill === undefined) return undefined;
    this.#prefillDone = true;
    places.releasePrefill();
    if (error.reason === 'worker_lost') router.directory.remove(prefill);
    ctx.log.warn({ err: error, workerId: prefill.id, committed: choices.report.committed }, 'the prefill or its transfer failed');
    if (choices.report.committed || this.#recomputing) return undefined;
    if (error.reason === 'worker_lost') {
      this.#prefillLostAt = performance.now() + COMMIT_GRACE_MS;
      return undefined;
    }
    return this.#startOver(error, prefill);
  }

  /** Asks the decode worker to recompute (no failure), or gives the attempt up for one with another prefill worker. */
  #startOver(error: ServiceError, prefill: WorkerRecord): AttemptFailure | undefined {
    const { ctx, choices, attempt, router } = this.#of;
    this.#prefillLostAt = undefined;
    const refused = error.retry === 'never' && error.code === 'invalid_argument';
    choices.avoid.add(prefill.incarnation);
    if (refused || (choices.emittedTokens === 0 && router.dispatcher.canPrefillElsewhere(needOf(choices)))) {
      return { worker: prefill, error };
    }
    ctx.log.info({ workerId: attempt.options.decode.id }, 'the decode worker prefills the prompt itself');
    this.#recomputing = true;
    attempt.recompute();
    return undefined;
  }

  /** Nothing was heard for a while. Once the KV is there a token is due; before, a worker is lost when its lease has ended. */
  #overdue(): AttemptFailure | undefined {
    const { choices, attempt, router } = this.#of;
    const { decode, prefill } = attempt.options;
    if (this.#prefillLostAt !== undefined && prefill !== undefined) {
      if (performance.now() < this.#prefillLostAt) return undefined;
      return this.#startOver(lost(prefill, 'lost before its KV was committed'), prefill);
    }
    const quietMs = performance.now() - this.#lastEventAt;
    const { stallMs } = router.config;
    if (quietMs < stallMs) return undefined;
    const silent = `silent for ${Math.round(quietMs)} ms`;
    const { committed } = choices.report;
    if (!isRegistered(decode, router)) return { worker: decode, error: lost(decode, `${silent}, and its lease has ended`) };
    if (committed && quietMs >= this.#hangMs) return { worker: decode, error: lost(decode, `${silent} while a token was due`) };
    if (committed || prefill === undefined || this.#prefillDone || isRegistered(prefill, router)) return undefined;
    return this.#prefillFailed(lost(prefill, `${silent}, and its lease has ended`));
  }

  /** The answer is complete; the workers' counts make the report complete. */
  async lastWords(): Promise<void> {
    const { ctx, choices, attempt } = this.#of;
    using limit = deadlineSignal(LAST_WORDS_MS, ctx.signal);
    while (!this.#decodeDone || !this.#prefillDone) {
      const event = await attempt.events.shift(limit.signal).catch(() => undefined);
      if (event === undefined) return;
      if (event.kind === 'sent') choices.report.sent(event.report);
      if (event.kind === 'finished') choices.report.finished(event);
      this.#prefillDone ||= event.kind === 'sent' || event.kind === 'prefill_failed';
      this.#decodeDone ||= event.kind === 'finished' || event.kind === 'decode_failed';
    }
  }

  /** Everybody who could give the token that is due has said his last word, or a later one. */
  incomplete(): AttemptFailure | undefined {
    const { choices, attempt } = this.#of;
    if (!this.#prefillDone || !(this.#decodeDone || choices.hasGap)) return undefined;
    const { decode } = attempt.options;
    return { worker: decode, error: lost(decode, `token ${choices.open[0]?.[1].emitted.length} never came`) };
  }
}

function isRegistered({ incarnation }: WorkerRecord, router: RouterParts): boolean {
  return router.directory.workers().some((worker) => worker.incarnation === incarnation);
}

function lost(worker: WorkerRecord, what: string): ServiceError {
  return new ServiceError(`worker ${worker.id}: ${what}`, { code: 'unavailable', reason: 'worker_lost', retry: 'other' });
}
