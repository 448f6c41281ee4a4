import type { RequestContext } from '../request-context.ts';
import type { RequestMetrics } from '../request-metrics.ts';

interface ChoiceTimes {
  readonly first: number;
  second?: number;
  last: number;
}

/** When the tokens of a request's answers reached the router, milliseconds of performance.now(); told to the metrics as they come. */
export class RequestTimes {
  readonly #ctx: RequestContext;
  readonly #metrics: RequestMetrics;
  readonly #choices = new Map<number, ChoiceTimes>();

  constructor(ctx: RequestContext, metrics: RequestMetrics) {
    this.#ctx = ctx;
    this.#metrics = metrics;
  }

  /** A token of `choice` came. The first of any answer is the request's first. */
  note(choice: number, now: number): void {
    const times = this.#choices.get(choice);
    if (times === undefined) {
      if (this.#choices.size === 0) this.#metrics.firstToken((now - this.#ctx.startedAt) / 1000);
      this.#choices.set(choice, { first: now, last: now });
      return;
    }
    this.#metrics.nextToken((now - times.last) / 1000);
    if (times.second === undefined) {
      times.second = now;
      this.#metrics.handoff((now - times.first) / 1000);
      this.#ctx.span.record('handoff', times.first, now);
    }
    times.last = now;
  }

  /** For the report on a prompt: of its answer `choice`, milliseconds; 0 for what never was. */
  of(choice: number): { ttftMs: number; handoffGapMs: number } {
    const times = this.#choices.get(choice);
    if (times === undefined) return { ttftMs: 0, handoffGapMs: 0 };
    const { first, second = first } = times;
    return { ttftMs: round(first - this.#ctx.startedAt), handoffGapMs: round(second - first) };
  }
}

/** Milliseconds with microseconds behind the point. */
export function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}
