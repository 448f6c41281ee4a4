/** Tickets on the wire. */
import { fail } from '@causeway/errors';
import { checkCover, type KvCodec, type KvDescriptor, type KvDtype, MAX_OBJECTS } from '@causeway/kv';
import type { kvV1 } from '@causeway/proto';
import { FRAME_HEADER_BYTES } from './frame.ts';
import { objectFromProto, objectToProto } from './object-wire.ts';
import { PartTable } from './part-table.ts';
import type { Ticket } from './types.ts';
import { subjectToken } from './subjects.ts';
import {
  codecFromProto,
  codecToProto,
  descriptorFromProto,
  descriptorToProto,
  dtypeFromProto,
  dtypeToProto,
  fingerprintFromProto,
  transferIdFromProto,
} from './wire-types.ts';

/** Largest raw part that any receiver may ask for, bytes. */
export const MAX_PART_BYTES = 8 << 20;

/** Longest prompt whose KV travels, tokens. */
const MAX_TOKENS = 0x7fff_ffff;

/** Ticket as protobuf. */
export function ticketToProto(ticket: Ticket): kvV1.Ticket {
  return {
    transferId: Buffer.from(ticket.transferId, 'hex'),
    epoch: ticket.epoch,
    workerId: ticket.workerId,
    incarnation: ticket.incarnation,
    maxPayload: ticket.maxPayload,
    maxPartBytes: ticket.maxPartBytes,
    descriptor: descriptorToProto(ticket.descriptor),
    fingerprint: { ...ticket.fingerprint },
    objects: ticket.objects.map(objectToProto),
    acceptedCodecs: ticket.acceptedCodecs.map(codecToProto),
    acceptedDtypes: ticket.acceptedDtypes.map(dtypeToProto),
    lossyAllowed: ticket.lossy,
    deadlineMs: Math.max(0, Math.round(ticket.deadlineMs)),
    chip: ticket.chip,
    tokens: ticket.tokens,
  };
}

/**
 * Ticket from protobuf, checked whole.
 * @throws ServiceError `malformed_frame`, `descriptor_mismatch`, `fingerprint_mismatch` or `newer_version`
 */
export function ticketFromProto(message: kvV1.Ticket | undefined): Ticket {
  if (message === undefined) fail('invalid_argument', 'malformed_frame', 'the ticket is missing');
  if (message.objects.length > MAX_OBJECTS) bad(`${message.objects.length} objects`);
  const descriptor = descriptorFromProto(message.descriptor);
  const objects = message.objects.map(objectFromProto);
  if (message.tokens < 1 || message.tokens > MAX_TOKENS)
    bad(`a prompt of ${message.tokens} tokens; 1 to ${MAX_TOKENS} are allowed`);
  if (message.epoch < 1) bad('epoch 0');
  if (message.maxPartBytes < 1 || message.maxPartBytes > MAX_PART_BYTES) bad(`max_part_bytes ${message.maxPartBytes}`);
  if (message.maxPayload <= FRAME_HEADER_BYTES) bad(`max_payload ${message.maxPayload}`);
  subjectToken(message.workerId);
  subjectToken(message.incarnation);
  new PartTable(descriptor, objects, MAX_PART_BYTES);
  checkCover(descriptor, objects, message.tokens);
  return {
    transferId: transferIdFromProto(message.transferId),
    epoch: message.epoch,
    workerId: message.workerId,
    incarnation: message.incarnation,
    maxPayload: message.maxPayload,
    maxPartBytes: message.maxPartBytes,
    descriptor,
    fingerprint: fingerprintFromProto(message.fingerprint),
    objects,
    acceptedCodecs: message.acceptedCodecs.map(codecFromProto).filter((codec): codec is KvCodec => codec !== undefined),
    acceptedDtypes: acceptedDtypes(message, descriptor),
    lossy: message.lossyAllowed,
    deadlineMs: message.deadlineMs,
    chip: message.chip,
    tokens: message.tokens,
  };
}

/** Those that this build knows; of a receiver that says nothing its storage's own. */
function acceptedDtypes(message: kvV1.Ticket, descriptor: KvDescriptor): KvDtype[] {
  if (message.acceptedDtypes.length === 0) return [descriptor.storage.dtype];
  return [...new Set(message.acceptedDtypes)].map(dtypeFromProto).filter((dtype): dtype is KvDtype => dtype !== undefined);
}

function bad(message: string): never {
  return fail('invalid_argument', 'malformed_frame', `ticket: ${message}`);
}
