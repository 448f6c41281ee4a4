/**
 * Gets the answers of one layer's experts: each expert from one of the shards that have it, all shards at once. What a shard fails to
 * answer is asked of another; what it is slow to answer too, within a budget, and the first answer counts. No expert is left out.
 */
import { fail, ServiceError } from '@causeway/errors';
import { abortable, deadlineSignal, linkSignals } from '@causeway/lifecycle';
import { assignExperts } from './assign.ts';
import { encodeFrame, type FrameContent, frameContent } from './frame-rows.ts';
import type { HedgeBudget } from './latency.ts';
import { type ExpertTokens, splitTokens } from './routed-tokens.ts';
import type { PendingAnswer, ShardAnswer, ShardLink } from './shard-link.ts';
import type { ShardLinks } from './shard-links.ts';
import { type AnswerMode, MAX_BODY_BYTES, PAIR_BYTES } from '../wire/frame.ts';

/** Answers of some experts, as they came. */
export interface AnswerPart {
  content: FrameContent;
  shard: string;
  answer: ShardAnswer;
}

export interface DispatchCounters {
  frames: number;
  hedgesSent: number;
  hedgesWon: number;
  retries: number;
  staleFrames: number;
  bytesSent: number;
  bytesReceived: number;
}

export interface LayerDispatch {
  layer: number;
  /** [N, rowBytes] in the type of the wire; rests until the end. */
  rows: Uint8Array;
  rowBytes: number;
  signal: AbortSignal | undefined;
}

export interface DispatcherOptions {
  links: ShardLinks;
  budget: HedgeBudget;
  counters: DispatchCounters;
  answers: AnswerMode;
  /** How long a token waits for a shard that has its expert, in milliseconds. */
  waitMs: number;
}

/** A shard is not thought slow before this time, in milliseconds: timers aren't finer than one. */
const LEAST_HEDGE_MS = 1;
/** So many times what others need is slow, even for a shard that is never faster. */
const SLOWER_THAN_OTHERS = 2;
/** A frame so many times as late as that has what the budget keeps for it. */
const VERY_LATE_FACTOR = 2;
/** With nothing left of the budget: how long, and how many times as late, before the shard counts as failed. */
const LEAST_STALL_MS = 200;
const STALL_FACTOR = 4;
/** While no shard's times are known. */
const FIRST_HEDGE_MS = 100;
/** Failures that another shard, or a newer placement, may not have. */
const ELSEWHERE = new Set(['worker_lost', 'stale_placement', 'queue_full', 'draining', 'not_ready']);

export class Dispatcher {
  readonly #o: DispatcherOptions;

  constructor(o: DispatcherOptions) {
    this.#o = o;
  }

  /** Sends all frames before it returns. @throws ServiceError `expert_unavailable` naming layer and expert, `cancelled`. */
  dispatch(run: LayerDispatch, experts: readonly ExpertTokens[]): Promise<AnswerPart[]> {
    return this.#ask(run, experts, new Set(), performance.now() + this.#o.waitMs);
  }

  async #ask(
    run: LayerDispatch,
    experts: readonly ExpertTokens[],
    exclude: ReadonlySet<string>,
    until: number,
  ): Promise<AnswerPart[]> {
    const { links } = this.#o;
    const homes = ({ expert }: ExpertTokens): ShardLink[] => links.homes(run.layer, expert, exclude);
    const { byLink, homeless } = assignExperts(experts, homes, links.random);
    const asked: Promise<AnswerPart[]>[] = [];
    for (const [link, own] of byLink) {
      for (const part of this.#frames(run, own)) asked.push(this.#frame(run, link, part, exclude, until));
    }
    if (homeless.length > 0) asked.push(this.#wait(run, homeless, until));
    // Every frame is waited for, whatever becomes of the others: none is left that could still read the rows.
    const settled = await Promise.allSettled(asked);
    const failed = settled.find((result) => result.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
    return settled.flatMap((result) => (result.status === 'fulfilled' ? result.value : []));
  }

  /** Cuts what one shard is asked into frames that aren't too long. */
  #frames(run: LayerDispatch, experts: readonly ExpertTokens[]): FrameContent[] {
    const perPair = run.rowBytes + PAIR_BYTES;
    const most = Math.max(1, Math.floor(MAX_BODY_BYTES / perPair));
    const pieces = experts.flatMap((one) => (one.tokens.length > most ? splitTokens(one, most) : [one]));
    const frames: FrameContent[] = [];
    let some: ExpertTokens[] = [];
    let pairs = 0;
    for (const piece of pieces) {
      if (some.length > 0 && pairs + piece.tokens.length > most) {
        frames.push(frameContent(run.layer, some));
        some = [];
        pairs = 0;
      }
      some.push(piece);
      pairs += piece.tokens.length;
    }
    if (some.length > 0) frames.push(frameContent(run.layer, some));
    return frames;
  }

  async #frame(
    run: LayerDispatch,
    link: ShardLink,
    content: FrameContent,
    exclude: ReadonlySet<string>,
    until: number,
  ): Promise<AnswerPart[]> {
    const { budget, counters, links } = this.#o;
    const pending = link.send(content.pairs, (id) => this.#encode(run, content, id));
    counters.frames++;
    budget.earn();
    const without = new Set([...exclude, link.shard]);
    const direct = this.#answer(run, link, pending, content);
    const others = content.experts.map(({ expert }) => links.homes(run.layer, expert, without));
    const hedgeable = others.every((homes) => homes.length > 0);
    if (!hedgeable) return direct.catch((error: unknown) => this.#elsewhere(run, content, error, without, until));
    const hedgeMs = slowAfterMs(link, new Set(others.flat()), content.pairs);
    // Each step waits until so long after the frame was sent, then asks others if the budget allows; the last asks in any case.
    const steps = [
      { untilMs: hedgeMs, allowed: () => budget.spend('late') },
      { untilMs: hedgeMs * VERY_LATE_FACTOR, allowed: () => budget.spend('very late') },
      { untilMs: Math.max(LEAST_STALL_MS, hedgeMs * STALL_FACTOR), allowed: undefined },
    ];
    let waitedMs = 0;
    let hedged = false;
    for (const { untilMs, allowed } of steps) {
      const late = await withinMs(direct, untilMs - waitedMs);
      if (late.kind === 'answer') return late.value;
      if (late.kind === 'error') return this.#elsewhere(run, content, late.error, without, until);
      waitedMs = untilMs;
      if (allowed?.() === false) continue;
      hedged = allowed !== undefined;
      if (hedged) counters.hedgesSent++;
      else counters.retries++;
      break;
    }
    const { parts, won } = await this.#race(run, direct, pending, content, without, until);
    if (won && hedged) counters.hedgesWon++;
    return parts;
  }

  /** The shard is late: others are asked too. `won`: theirs came first. */
  async #race(
    run: LayerDispatch,
    direct: Promise<AnswerPart[]>,
    pending: PendingAnswer,
    content: FrameContent,
    without: ReadonlySet<string>,
    until: number,
  ): Promise<{ parts: AnswerPart[]; won: boolean }> {
    using stop = linkSignals(run.signal);
    const other = { ...run, signal: stop.signal };
    const hedge = this.#ask(other, content.experts, without, until).then((parts) => ({ parts, won: true }));
    const first = direct.then((parts) => ({ parts, won: false }));
    try {
      const result = await Promise.any([first, hedge]);
      if (result.won) pending.cancel();
      else stop.abort();
      return result;
    } catch (error) {
      throw error instanceof AggregateError ? error.errors[1] : error;
    }
  }

  async #answer(run: LayerDispatch, link: ShardLink, pending: PendingAnswer, content: FrameContent): Promise<AnswerPart[]> {
    try {
      const answer = await (run.signal === undefined ? pending.answer : abortable(pending.answer, run.signal));
      this.#o.counters.bytesReceived += answer.body.byteLength;
      const count = this.#o.answers === 'pairs' ? content.pairs : content.tokens.length;
      if (answer.body.byteLength !== count * run.rowBytes) {
        const found = `${answer.body.byteLength} bytes; ${count} rows take ${count * run.rowBytes}`;
        fail('internal', 'malformed_frame', `expert shard ${link.shard} answered layer ${run.layer} with ${found}`);
      }
      return [{ content, shard: link.shard, answer }];
    } catch (error) {
      if (run.signal?.aborted === true) {
        pending.cancel();
        throw ServiceError.from(run.signal.reason);
      }
      throw error;
    }
  }

  /** Asks others after a failure; gives the failure up to the caller when it is not the shard's alone. */
  #elsewhere(
    run: LayerDispatch,
    content: FrameContent,
    error: unknown,
    without: ReadonlySet<string>,
    until: number,
  ): Promise<AnswerPart[]> {
    const failure = ServiceError.from(error);
    if (run.signal?.aborted === true || !ELSEWHERE.has(failure.reason)) throw failure;
    if (failure.reason === 'stale_placement') this.#o.counters.staleFrames++;
    this.#o.counters.retries++;
    return this.#ask(run, content.experts, without, until);
  }

  /** Nobody has these experts now: waits for a shard to come back or for another placement. */
  async #wait(run: LayerDispatch, experts: readonly ExpertTokens[], until: number): Promise<AnswerPart[]> {
    const { links } = this.#o;
    using deadline = deadlineSignal(until - performance.now(), run.signal);
    for (;;) {
      const missing = experts.find(({ expert }) => links.homes(run.layer, expert, new Set()).length === 0);
      // Shards that failed a moment ago get another chance, but not at once.
      if (missing === undefined) {
        await pause(RETRY_MS);
        return await this.#ask(run, experts, new Set(), until);
      }
      if (run.signal?.aborted === true) throw ServiceError.from(run.signal.reason);
      if (!links.anyShard || deadline.signal.aborted) unavailable(run.layer, missing.expert, links);
      await Promise.race([
        links.changed(),
        pause(POLL_MS),
        abortable(new Promise(() => undefined), deadline.signal).catch(() => undefined),
      ]);
    }
  }

  #encode(run: LayerDispatch, content: FrameContent, id: number): Uint8Array {
    const message = encodeFrame(content, id, this.#o.links.placement?.epoch ?? 0, run.rows, run.rowBytes);
    this.#o.counters.bytesSent += message.byteLength;
    return message;
  }
}

/** When a frame of so many pairs is late at this shard: after its own slowest times, or those of the others who have its experts. */
function slowAfterMs(link: ShardLink, others: ReadonlySet<ShardLink>, pairs: number): number {
  const known = [link.latency.p95(pairs)];
  for (const other of others) {
    const theirs = other.latency.p95(pairs);
    known.push(theirs === undefined ? undefined : SLOWER_THAN_OTHERS * theirs);
  }
  const least = Math.min(...known.filter((ms) => ms !== undefined));
  return Math.max(LEAST_HEDGE_MS, Number.isFinite(least) ? least : FIRST_HEDGE_MS);
}

const RETRY_MS = 10;
const POLL_MS = 100;

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

type InTime<T> = { kind: 'answer'; value: T } | { kind: 'error'; error: unknown } | { kind: 'late' };

async function withinMs<T>(promise: Promise<T>, ms: number): Promise<InTime<T>> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<InTime<T>>((resolve) => {
    timer = setTimeout(() => resolve({ kind: 'late' }), ms);
  });
  const settled = promise.then(
    (value): InTime<T> => ({ kind: 'answer', value }),
    (error: unknown): InTime<T> => ({ kind: 'error', error }),
  );
  const result = await Promise.race([settled, late]);
  clearTimeout(timer);
  return result;
}

function unavailable(layer: number, expert: number, links: ShardLinks): never {
  const epoch = links.placement?.epoch;
  const why = links.anyShard
    ? `no shard that has it answers (placement ${epoch ?? 'none'})`
    : 'no expert shard of this model is registered';
  return fail('unavailable', 'expert_unavailable', `expert ${expert} of layer ${layer} is not available: ${why}`, {
    retry: 'other',
  });
}
