import { type ErrorCode, ServiceError } from '@causeway/errors';
import { failpoint } from '@causeway/failpoints';
import { sleep } from '@causeway/lifecycle';
import type { Choices } from '../answer/choices.ts';
import type { RequestContext } from '../request-context.ts';
import type { RouterParts } from '../router-parts.ts';
import type { AttemptFailure } from './reserve.ts';

/** Codes that another worker would answer alike. */
const FINAL: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'invalid_argument',
  'not_found',
  'already_exists',
  'permission_denied',
  'unauthenticated',
  'failed_precondition',
  'out_of_range',
  'unimplemented',
]);
/** Pause before a worker that had no room is asked again, ms; doubled by chance. */
const BUSY_PAUSE_MS = 50;

/**
 * Returns when the answer may be tried again, the failed worker avoided.
 * @throws ServiceError the failure itself when no other worker would do better, `worker_lost` when the attempts are used up.
 */
export async function recover(
  ctx: RequestContext,
  choices: Choices,
  failure: AttemptFailure,
  router: RouterParts,
): Promise<void> {
  const { worker, error } = failure;
  ctx.signal.throwIfAborted();
  if (error.retry !== 'other' && FINAL.has(error.code)) throw withoutInternals(error);
  if (error.code === 'resource_exhausted') return waitForRoom(ctx, choices, error, router);
  if (error.reason === 'dependency_unavailable') {
    // No KV can travel now, and none of the workers is to blame: the next attempt does without, or waits.
    choices.kvStuck = true;
    return waitForRoom(ctx, choices, error, router);
  }

  choices.busyUntil = undefined;
  choices.avoid.add(worker.incarnation);
  if (error.reason === 'worker_lost') router.directory.remove(worker);
  choices.failures++;
  const { maxAttempts } = router.config;
  ctx.log.warn(
    { err: error, workerId: worker.id, failures: choices.failures, emitted: choices.emittedTokens },
    'an attempt was lost',
  );
  if (choices.failures >= maxAttempts) {
    throw new ServiceError(
      `gave up after ${choices.failures} attempts; the last one failed at worker ${worker.id}: ${error.message}`,
      {
        code: 'unavailable',
        reason: 'worker_lost',
        retry: 'same',
        retryAfterSeconds: 1,
        cause: error,
      },
    );
  }
  await failpoint('migrating', ctx.id);
  if (choices.emittedTokens > 0) router.metrics.migrated();
}

/** A full worker, or one without NATS, isn't a lost one: asked again, or another, until the time for waiting is over. */
async function waitForRoom(ctx: RequestContext, choices: Choices, error: ServiceError, router: RouterParts): Promise<void> {
  choices.busyUntil ??= performance.now() + router.config.queueWaitMs;
  if (performance.now() >= choices.busyUntil) {
    throw new ServiceError(error.message, {
      code: error.code,
      reason: error.reason,
      retry: 'same',
      retryAfterSeconds: error.retryAfterSeconds ?? 1,
    });
  }
  await sleep(BUSY_PAUSE_MS * (1 + Math.random()), ctx.signal);
}

/** The worker's error without the worker protocol's field names. */
function withoutInternals(error: ServiceError): ServiceError {
  return new ServiceError(error.message, { code: error.code, reason: error.reason, retry: error.retry, cause: error });
}
