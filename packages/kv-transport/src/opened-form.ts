/** What a sender says of its transfer, the form of its numbers above all, held against what the ticket allows. */
import { fail } from '@causeway/errors';
import {
  compareFingerprints,
  compareGeometry,
  holdsExactly,
  missingHeads,
  type KvDescriptor,
  type KvWireForm,
  storageName,
  wireFormOf,
} from '@causeway/kv';
import type { kvV1 } from '@causeway/proto';
import { SMALLEST_PART } from './endpoint-options.ts';
import type { Representation, Ticket } from './types.ts';
import { descriptorFromProto, fingerprintFromProto, wireFormFromProto } from './wire-types.ts';

/** In which form numbers will come, and what becomes of them. */
interface OpenedForm {
  form: KvWireForm;
  representation: Representation;
}

/**
 * Holds an Open against the ticket whole.
 * @throws ServiceError `fingerprint_mismatch`, `descriptor_mismatch`, `newer_version`, or `malformed_frame` for parts of another size
 */
export function checkedOpen(ticket: Ticket, open: kvV1.Open): OpenedForm {
  compareFingerprints(ticket.fingerprint, fingerprintFromProto(open.fingerprint));
  const stored = descriptorFromProto(open.descriptor);
  compareGeometry(ticket.descriptor, stored);
  const opened = openedForm(ticket, stored, open);
  checkPartBytes(ticket, open);
  return opened;
}

/**
 * Reads the wire form of an Open.
 * @throws ServiceError `descriptor_mismatch` for a form that was not accepted, or that rounds where the ticket forbids it
 */
function openedForm({ descriptor, acceptedDtypes, lossy }: Ticket, stored: KvDescriptor, open: kvV1.Open): OpenedForm {
  const sent = wireFormOf(stored.storage);
  const kept = wireFormOf(descriptor.storage);
  const form = open.wire === undefined ? sent : wireFormFromProto(open.wire);
  const { layers } = descriptor;
  const missing = missingHeads(layers, stored.storage, descriptor.storage);
  if (missing !== undefined) mismatch(missing);
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
function checkPartBytes({ maxPartBytes }: Ticket, { partBytes }: kvV1.Open): void {
  if (partBytes >= SMALLEST_PART && partBytes <= maxPartBytes) return;
  const allowed = `${SMALLEST_PART} to ${maxPartBytes}`;
  fail('invalid_argument', 'malformed_frame', `the sender wants parts of ${partBytes} bytes; ${allowed} are allowed`);
}

function mismatch(message: string): never {
  return fail('failed_precondition', 'descriptor_mismatch', message);
}
