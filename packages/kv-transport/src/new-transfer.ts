/** What a transfer begins with: the receiver's ticket, and the form in which the sender lets numbers travel. */
import { randomBytes } from 'node:crypto';
import { chooseWire, compareGeometry, KV_CODECS, KV_DTYPES, objectTable, storageName, type WireChoice } from '@causeway/kv';
import type { EndpointContext } from './context.ts';
import { OBJECT_BYTES } from './endpoint-options.ts';
import type { ReceiveOptions, Representation, Ticket } from './types.ts';

/** A new ticket of this receiver for the pages of `options`. */
export function newTicket(
  { pages, tokens, order, deadlineMs }: ReceiveOptions,
  { descriptor, fingerprint, lossy }: EndpointContext,
  self: Pick<Ticket, 'workerId' | 'incarnation' | 'chip' | 'maxPayload' | 'maxPartBytes'>,
): Ticket {
  const { workerId, incarnation, chip, maxPayload, maxPartBytes } = self;
  return {
    transferId: randomBytes(16).toString('hex'),
    epoch: pages.epoch,
    workerId,
    incarnation,
    maxPayload,
    maxPartBytes,
    descriptor,
    fingerprint,
    objects: objectTable(descriptor, tokens, OBJECT_BYTES, order),
    acceptedCodecs: KV_CODECS,
    acceptedDtypes: KV_DTYPES,
    lossy,
    deadlineMs,
    chip,
    tokens,
  };
}

/**
 * The form in which numbers travel to the giver of a ticket.
 * @throws ServiceError `descriptor_mismatch` when the two store different KV, or nothing that both allow will do
 */
export function wireFor(
  { descriptor, lossy, rounded }: EndpointContext,
  ticket: Ticket,
): { wire: WireChoice; representation: Representation } {
  compareGeometry(descriptor, ticket.descriptor);
  const wire = chooseWire({
    from: descriptor,
    to: ticket.descriptor,
    accepted: ticket.acceptedDtypes,
    lossy: lossy && ticket.lossy,
    rounded,
  });
  return {
    wire,
    representation: {
      sender: storageName(descriptor.storage),
      receiver: storageName(ticket.descriptor.storage),
      wire: wire.form.dtype,
      lossless: wire.lossless,
    },
  };
}
