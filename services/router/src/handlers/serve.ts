import { ServiceError } from '@causeway/errors';
import { type FinishReasonName, type Usage, usageObject } from '@causeway/openai';
import type { AnswerPiece } from '../answer/answer.ts';
import type { Choices } from '../answer/choices.ts';
import { jointReport } from '../answer/joint-report.ts';
import type { PromptEvent } from '../attempt/follow.ts';
import type { RequestSource } from '../prompt.ts';
import type { RequestFields } from '../request/request.ts';
import type { RequestContext } from '../request-context.ts';
import type { RouterParts } from '../router-parts.ts';
import { generate } from './generate.ts';
import { RequestTimes, round } from './request-times.ts';

/** What the APIs pass on: what was asked for, pieces, the end of each choice, the last one's with the usage. */
export type ServedEvent =
  | {
      readonly kind: 'accepted';
      readonly fields: RequestFields;
      /** Of each prompt, what comes before its answers. */
      readonly echoes: readonly string[];
      /** Answers to come, of all prompts. */
      readonly choices: number;
    }
  | PromptEvent
  | { readonly kind: 'piece'; readonly choice: number; readonly piece: AnswerPiece }
  | { readonly kind: 'finished'; readonly choice: number; readonly reason: FinishReasonName; readonly usage: Usage | undefined };

/** `generate`, measured and logged: times are those at which tokens reached the router, not at which the client took them. Its failures are ServiceErrors. */
export async function* serve(ctx: RequestContext, source: RequestSource, router: RouterParts): AsyncGenerator<ServedEvent, void> {
  const times = new RequestTimes(ctx, router.metrics);
  const reasons = new Map<number, FinishReasonName>();
  /** Choices whose end hasn't been told: the last one's comes with the usage. */
  const untold = new Set<number>();
  let ended = false;
  try {
    for await (const event of generate(ctx, source, router)) {
      if (event.kind === 'accepted') {
        const { fields, echoes } = event;
        const choices = echoes.length * fields.options.n;
        for (let choice = 0; choice < choices; choice++) untold.add(choice);
        yield { kind: 'accepted', fields, echoes, choices };
      } else if (event.kind === 'piece') {
        const { choice, piece } = event;
        times.note(choice, piece.arrivedAt);
        yield event;
        if (piece.end === undefined) continue;
        reasons.set(choice, piece.end);
        if (untold.size === 1) continue;
        untold.delete(choice);
        yield { kind: 'finished', choice, reason: piece.end, usage: undefined };
      } else if (event.kind === 'prompt') yield event;
      else {
        const reasonOf = (choice: number): FinishReasonName => reasons.get(choice) ?? 'length';
        const usage = finish(ctx, event.prompts, reasonOf, times, router);
        ended = true;
        for (const choice of untold) {
          untold.delete(choice);
          yield { kind: 'finished', choice, reason: reasonOf(choice), usage: untold.size === 0 ? usage : undefined };
        }
      }
    }
  } catch (thrown) {
    ended = true;
    throw failed(ctx, ctx.signal.aborted ? ctx.signal.reason : thrown, router);
  } finally {
    // The consumer stopped taking events: the client is gone.
    if (!ended) failed(ctx, new ServiceError('the client went away', { code: 'cancelled', reason: 'cancelled' }), router);
  }
}

/** Measures and logs a request that is answered, and counts its tokens: each prompt's once, however many answers it has. */
function finish(
  ctx: RequestContext,
  prompts: readonly Choices[],
  reasonOf: (choice: number) => FinishReasonName,
  times: RequestTimes,
  router: RouterParts,
): Usage {
  const reports = prompts.map(({ report, answers }, index) => report.toReport(times.of(index * answers.length)));
  const promptTokens = sum(prompts.map(({ shared }) => shared.promptIds.length));
  const tokens = sum(prompts.map(({ emittedTokens }) => emittedTokens));
  const reasons = prompts.flatMap(({ answers }, index) => answers.map((_, i) => reasonOf(index * answers.length + i)));
  const seconds = (performance.now() - ctx.startedAt) / 1000;
  router.metrics.finished({ seconds, reasons, promptTokens, tokens, outcomes: reports.map(({ outcome }) => outcome) });
  const report = jointReport(reports);
  ctx.span.set({
    'gen_ai.request.model': router.model,
    'gen_ai.usage.input_tokens': promptTokens,
    'gen_ai.usage.output_tokens': tokens,
    'gen_ai.response.finish_reasons': reasons,
    'gen_ai.latency.time_to_first_token': report.ttft_ms / 1000,
    'causeway.kv.outcome': report.outcome,
    'causeway.kv.bytes_sent': report.bytes_sent,
  });
  const reason = reasons.length === 1 ? reasons[0] : reasons;
  ctx.log.info({ promptTokens, tokens, reason, seconds: round(seconds), kv: report }, 'answered');
  const reasoned = prompts.flatMap(({ answers }) => answers.flatMap(({ options }) => options.output?.reasoningTokens ?? []));
  return usageObject(promptTokens, tokens, report, reasoned.length === 0 ? undefined : sum(reasoned));
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
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
