import { ServiceError } from '@causeway/errors';
import type { WorkerRecord } from '@causeway/registry';
import type { Choices } from '../answer/choices.ts';
import type { RequestContext } from '../request-context.ts';
import type { RouterParts } from '../router-parts.ts';
import type { Places } from '../workers/dispatcher.ts';
import { Attempt } from './attempt.ts';
import type { Ticket } from './events.ts';
import { nextGeneration } from './generation.ts';

/** Why an attempt is over without the answer being finished. */
export interface AttemptFailure {
  readonly worker: WorkerRecord;
  readonly error: ServiceError;
}

export type Reservation =
  /** The decode worker has room and waits for the KV. */
  | { readonly kind: 'ticket'; readonly ticket: Ticket }
  /** The decode worker has room and prefills the prompt itself. */
  | { readonly kind: 'local' }
  | { readonly kind: 'lost'; readonly failure: AttemptFailure };

/** Opens an attempt: the Decode stream with its `reserve`. The answer comes with `reserved`. */
export function openAttempt(ctx: RequestContext, choices: Choices, places: Places, router: RouterParts): Attempt {
  choices.beginAttempt();
  choices.report.begin(places.decode, places.prefill);
  choices.report.waited(places.waitedMs);
  const { prefill, decode } = places;
  ctx.log.debug({ attempt: choices.report.attempts, prefillWorker: prefill?.id, decodeWorker: decode.id }, 'an attempt begins');
  return new Attempt(ctx, router.channels, {
    number: choices.report.attempts,
    model: choices.shared.model,
    generation: nextGeneration(choices, router.config.recovery),
    decode,
    prefill,
  });
}

/** Waits for room at the decode worker: a ticket, or its word that it prefills by itself. */
export async function reserved(ctx: RequestContext, attempt: Attempt): Promise<Reservation> {
  using span = attempt.span.child('reserve');
  const event = await attempt.events.shift(ctx.signal);
  span.end();
  const { decode, prefill } = attempt.options;
  if (event?.kind === 'ticket' && prefill !== undefined) return { kind: 'ticket', ticket: event.ticket };
  if (event?.kind === 'reserved' && prefill === undefined) return { kind: 'local' };
  const error =
    event?.kind === 'decode_failed'
      ? event.error
      : new ServiceError(`worker ${decode.id} answered a reservation with ${event?.kind ?? 'nothing'}`, {
          code: 'internal',
          reason: 'internal',
          retry: 'other',
        });
  return { kind: 'lost', failure: { worker: decode, error } };
}
