/** What a sender says of its transfer, the form of its numbers above all, held against what the ticket allows. */
import { fail } from '@causeway/errors';
import { holdsExactly, type KvDescriptor, type KvWireForm, storageName, wireFormOf } from '@causeway/kv';
import type { kvV1 } from '@causeway/proto';
import { SMALLEST_PART } from './endpoint-options.ts';
import type { Representation, Ticket } from './types.ts';
import { wireFormFromProto } from './wire-types.ts';

/**
 * Reads the wire form of an Open.
 * @throws ServiceError `descriptor_mismatch` for a form that was not accepted, or that rounds where the ticket forbids it
 */
export function openedForm(
  { descriptor, acceptedDtypes, lossy }: Ticket,
  stored: KvDescriptor,
  open: kvV1.Open,
): { form: KvWireForm; representation: Representation } {
  const sent = wireFormOf(stored.storage);
  const kept = wireFormOf(descriptor.storage);
  const form = open.wire === undefined ? sent : wireFormFromProto(open.wire);
  const { layers } = descriptor;
  if (!acceptedDtypes.includes(form.dtype)) {
    mismatch(`the sender wants to send ${form.dtype}; this worker takes ${acceptedDtypes.join(', ')}`);
  }
  if (form.latent === 'split' && descriptor.storage.latent !== 'split' && stored.storage.latent !== 'split') {
    mismatch('the sender wants to send split latents, which neither end stores');
  }
  const lossless = holdsExactly(form, sent, layers) && holdsExactly(kept, sent, layers);
  const names = { sender: storageName(stored.storage), receiver: storageName(descriptor.storage) };
  if (!lossless && !lossy)
    mismatch(`${names.sender} as ${form.dtype} to ${names.receiver} would round numbers, which the ticket forbids`);
  return { form, representation: { ...names, wire: form.dtype, lossless } };
}

/** @throws ServiceError `malformed_frame` for parts of a size that the ticket doesn't allow */
export function checkPartBytes({ maxPartBytes }: Ticket, { partBytes }: kvV1.Open): void {
  if (partBytes >= SMALLEST_PART && partBytes <= maxPartBytes) return;
  const allowed = `${SMALLEST_PART} to ${maxPartBytes}`;
  fail('invalid_argument', 'malformed_frame', `the sender wants parts of ${partBytes} bytes; ${allowed} are allowed`);
}

function mismatch(message: string): never {
  return fail('failed_precondition', 'descriptor_mismatch', message);
}
