import { decidePlacement, type Need } from '@causeway/scheduling';
import type { Answer } from '../answer/answer.ts';
import type { RequestContext } from '../request-context.ts';
import type { RouterParts } from '../router-parts.ts';
import type { Places } from './dispatcher.ts';

/** What the answer needs of its next workers. No prefix index yet: every token of the prompt is uncached. */
export function needOf(answer: Answer): Need {
  return {
    model: answer.options.model,
    promptTokens: answer.prefillTokens,
    maxTokens: answer.remainingTokens,
    avoid: answer.avoid,
  };
}

/**
 * Chooses workers for the next attempt and takes a place at each, waiting in line for them.
 * @throws ServiceError `no_workers`, `queue_full`, `no_capacity`, or the signal's reason.
 */
export async function plan(ctx: RequestContext, answer: Answer, need: Need, router: RouterParts): Promise<Places> {
  using _span = ctx.span.child('queue');
  const { config } = router;
  const recovering = answer.failures > 0;
  const decided = decidePlacement(need.promptTokens, answer.options.placement, {
    mode: config.placement,
    localPrefillTokens: config.localPrefillTokens,
  });
  const placement = answer.kvStuck && decided.by === 'length' ? { mode: 'local' as const, by: decided.by } : decided;
  const waitMs = Math.min(
    recovering ? Math.max(config.recoveryWaitMs, config.queueWaitMs) : config.queueWaitMs,
    ctx.remainingMs(),
  );
  return await router.dispatcher.acquire({ need, placement, waitMs, patient: recovering }, ctx.signal);
}
