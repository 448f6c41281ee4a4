import { ServiceError } from '@causeway/errors';
import { type FinishReasonName, type Usage, usageObject } from '@causeway/openai';
import type { AnswerPiece } from '../answer/answer.ts';
import type { RequestSource } from '../prompt.ts';
import type { RequestFields } from '../request/request.ts';
import type { RequestContext } from '../request-context.ts';
import type { RouterParts } from '../router-parts.ts';
import { generate } from './generate.ts';

/** What the APIs pass on: what was asked for, pieces, the end with the usage. */
export type ServedEvent =
  | { readonly kind: 'accepted'; readonly fields: RequestFields }
  | { readonly kind: 'piece'; readonly piece: AnswerPiece }
  | { readonly kind: 'finished'; readonly reason: FinishReasonName; readonly usage: Usage };

/** `generate`, measured and logged: times are those at which tokens reached the router, not at which the client took them. Its failures are ServiceErrors. */
export async function* serve(ctx: RequestContext, source: RequestSource, router: RouterParts): AsyncGenerator<ServedEvent, void> {
  const times: { first?: number; second?: number; last?: number } = {};
  let ended = false;
  try {
    for await (const event of generate(ctx, source, router)) {
      if (event.kind !== 'finished') {
        if (event.kind === 'piece') note(times, event.piece.arrivedAt, ctx, router);
        yield event;
        continue;
      }
      const usage = finish(ctx, event.answer, event.reason, times, router);
      ended = true;
      yield { kind: 'finished', reason: event.reason, usage };
    }
  } catch (thrown) {
    ended = true;
    throw failed(ctx, ctx.signal.aborted ? ctx.signal.reason : thrown, router);
  } finally {
    // The consumer stopped taking events: the client is gone.
    if (!ended) failed(ctx, new ServiceError('the client went away', { code: 'cancelled', reason: 'cancelled' }), router);
  }
}

function note(
  times: { first?: number; second?: number; last?: number },
  now: number,
  ctx: RequestContext,
  router: RouterParts,
): void {
  if (times.first === undefined) {
    times.first = now;
    router.metrics.firstToken((now - ctx.startedAt) / 1000);
  } else {
    router.metrics.nextToken((now - (times.last ?? now)) / 1000);
    if (times.second === undefined) {
      times.second = now;
      router.metrics.handoff((now - times.first) / 1000);
      ctx.span.record('handoff', times.first, now);
    }
  }
  times.last = now;
}

type Finished = Extract<Awaited<ReturnType<ReturnType<typeof generate>['next']>>['value'], { kind: 'finished' }>;

function finish(
  ctx: RequestContext,
  answer: Finished['answer'],
  reason: FinishReasonName,
  times: { first?: number; second?: number },
  router: RouterParts,
): Usage {
  const first = times.first ?? performance.now();
  const report = answer.report.toReport({
    ttftMs: round(first - ctx.startedAt),
    handoffGapMs: times.second === undefined ? 0 : round(times.second - first),
  });
  const promptTokens = answer.options.promptIds.length;
  const tokens = answer.emitted.length;
  const seconds = (performance.now() - ctx.startedAt) / 1000;
  router.metrics.finished({ seconds, reason, promptTokens, tokens, report });
  ctx.span.set({
    'gen_ai.request.model': answer.options.model,
    'gen_ai.usage.input_tokens': promptTokens,
    'gen_ai.usage.output_tokens': tokens,
    'gen_ai.response.finish_reasons': [reason],
    'gen_ai.latency.time_to_first_token': (first - ctx.startedAt) / 1000,
    'causeway.kv.outcome': report.outcome,
    'causeway.kv.bytes_sent': report.bytes_sent,
  });
  ctx.log.info({ promptTokens, tokens, reason, seconds: round(seconds), kv: report }, 'answered');
  return usageObject(promptTokens, tokens, report, answer.options.output?.reasoningTokens);
}

/** Counts and logs a request that was refused or failed. */
export function failed(ctx: RequestContext, thrown: unknown, router: RouterParts): ServiceError {
  const error = ServiceError.from(thrown);
  router.metrics.failed(error);
  ctx.span.failed(error);
  const level = error.code === 'internal' || error.code === 'unknown' ? 'error' : error.code === 'unavailable' ? 'warn' : 'info';
  ctx.log[level]({ err: error }, error.code === 'cancelled' ? 'cancelled' : 'refused or failed');
  return error;
}

/** Milliseconds with microseconds behind the point. */
function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}
