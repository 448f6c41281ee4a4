import { decidePlacement, type Need } from '@causeway/scheduling';
import type { Choices } from '../answer/choices.ts';
import type { RequestContext } from '../request-context.ts';
import type { RouterParts } from '../router-parts.ts';
import type { Places } from './dispatcher.ts';

/** What the answers need of their next workers. No prefix index yet: every token of the prompt is uncached. */
export function needOf(choices: Choices): Need {
  return {
    model: choices.shared.model,
    promptTokens: choices.prefillTokens,
    maxTokens: choices.remainingTokens,
    sequences: Math.max(1, choices.open.length),
    avoid: choices.avoid,
  };
}

/**
 * Chooses workers for the next attempt and takes a place at each, waiting in line for them.
 * @throws ServiceError `no_workers`, `queue_full`, `no_capacity`, or the signal's reason.
 */
export async function plan(ctx: RequestContext, choices: Choices, need: Need, router: RouterParts): Promise<Places> {
  using _span = ctx.span.child('queue');
  const { config } = router;
  const recovering = choices.failures > 0;
  const decided = decidePlacement(need.promptTokens, choices.shared.placement, {
    mode: config.placement,
    localPrefillTokens: config.localPrefillTokens,
  });
  const placement = choices.kvStuck && decided.by === 'length' ? { mode: 'local' as const, by: decided.by } : decided;
  const waitMs = Math.min(
    recovering ? Math.max(config.recoveryWaitMs, config.queueWaitMs) : config.queueWaitMs,
    ctx.remainingMs(),
  );
  return await router.dispatcher.acquire({ need, placement, waitMs, patient: recovering }, ctx.signal);
}
