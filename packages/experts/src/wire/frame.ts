/**
 * Messages of Dispatch as bytes. They are protobuf (causeway.expert.v1), but `body` is written by hand behind the other fields, so that
 * rows are gathered straight into the message, and read as a view of it.
 */
import { fail } from '@causeway/errors';
import { expertV1 } from '@causeway/proto';

/** Version of the protocol that both ends must speak. */
export const PROTOCOL_VERSION = 1;

/** A message with rows has at most so many bytes of them: no end copies for more than a few milliseconds at once. */
export const MAX_BODY_BYTES = 8 * 1024 * 1024;

/** Room for the other fields of a request. */
const MAX_HEAD_BYTES = 64 * 1024;
/** Largest message that a shard takes. */
export const MAX_REQUEST_BYTES = MAX_BODY_BYTES + MAX_HEAD_BYTES;

export const ROW_TYPES = ['f32', 'bf16', 'f16'] as const;
/** Type of rows and answers on the wire. */
export type RowType = (typeof ROW_TYPES)[number];

/** `pairs`: an answer for each expert of each row, to be summed by the caller; `sums`: one per row and shard. */
export type AnswerMode = 'sums' | 'pairs';

export const ROW_TYPE_BYTES: Readonly<Record<RowType, number>> = { f32: 4, bf16: 2, f16: 2 };

/** Bytes of a pair behind the rows: row, expert, weight. */
export const PAIR_BYTES = 12;

/** Field 15, length-delimited (protobuf wire format). */
const BODY_TAG = (15 << 3) | 2;

/** What a worker says of itself. */
export interface Hello {
  protocolVersion: number;
  fingerprint: string;
  workerId: string;
  answers: AnswerMode;
  rowType: RowType;
  epoch: number;
}

const ROW_TYPE_PROTO = { f32: 1, bf16: 2, f16: 3 } as const;
const ANSWERS_PROTO = { sums: 1, pairs: 2 } as const;

export function encodeHello(hello: Hello): Uint8Array {
  const { answers, rowType, epoch, ...rest } = hello;
  const value = { ...rest, answers: ANSWERS_PROTO[answers], rowType: ROW_TYPE_PROTO[rowType], epoch: BigInt(epoch) };
  return encodeRequest({ $case: 'hello', value });
}

/** @throws ServiceError `newer_version` or `bad_request`. */
export function readHello(message: expertV1.DispatchRequest): Hello {
  if (message.request?.$case !== 'hello') return bad('the first message must be hello');
  const { value } = message.request;
  if (value.protocolVersion !== PROTOCOL_VERSION) {
    const versions = `worker ${value.workerId.slice(0, 128)} speaks version ${value.protocolVersion} of Dispatch, this shard ${PROTOCOL_VERSION}`;
    return fail('failed_precondition', 'newer_version', `${versions}: run the same release on both`);
  }
  const rowType = ROW_TYPES.find((type) => ROW_TYPE_PROTO[type] === value.rowType);
  const answers = (['sums', 'pairs'] as const).find((mode) => ANSWERS_PROTO[mode] === value.answers);
  if (rowType === undefined) return bad(`hello.row_type ${value.rowType} is not known`);
  if (answers === undefined) return bad(`hello.answers ${value.answers} is not known`);
  const { protocolVersion, fingerprint, workerId } = value;
  return { protocolVersion, fingerprint, workerId, answers, rowType, epoch: Number(value.epoch) };
}

/** A message without a body. */
export function encodeRequest(request: NonNullable<expertV1.DispatchRequest['request']>): Uint8Array {
  return expertV1.DispatchRequest.encode({ request, body: new Uint8Array(0) }).finish();
}

export function encodeReply(reply: NonNullable<expertV1.DispatchReply['reply']>): Uint8Array {
  return expertV1.DispatchReply.encode({ reply, body: new Uint8Array(0) }).finish();
}

/** A message with room for a body, to be filled by the caller. */
export interface OpenMessage {
  message: Uint8Array;
  body: Uint8Array;
}

export function openRows(rows: expertV1.Rows, bodyBytes: number): OpenMessage {
  return open(encodeRequest({ $case: 'rows', value: rows }), bodyBytes);
}

export function openAnswer(answer: expertV1.Answer, bodyBytes: number): OpenMessage {
  return open(encodeReply({ $case: 'answer', value: answer }), bodyBytes);
}

function open(head: Uint8Array, bodyBytes: number): OpenMessage {
  const prefix: number[] = [BODY_TAG];
  let rest = bodyBytes;
  for (; rest > 0x7f; rest = Math.floor(rest / 128)) prefix.push((rest % 128) | 0x80);
  prefix.push(rest);
  // In memory of its own, that gRPC needn't copy it.
  const message = Buffer.allocUnsafeSlow(head.length + prefix.length + bodyBytes);
  message.set(head, 0);
  message.set(prefix, head.length);
  return { message, body: message.subarray(head.length + prefix.length) };
}

/** @throws ServiceError `malformed_frame`. */
export function readRequest(message: Uint8Array): expertV1.DispatchRequest {
  return decoded(() => expertV1.DispatchRequest.decode(message));
}

/** @throws ServiceError `malformed_frame`. */
export function readReply(message: Uint8Array): expertV1.DispatchReply {
  return decoded(() => expertV1.DispatchReply.decode(message));
}

function decoded<T>(decode: () => T): T {
  try {
    return decode();
  } catch (cause) {
    return fail('invalid_argument', 'malformed_frame', 'a message of Dispatch is not protobuf', { cause });
  }
}

function bad(message: string): never {
  return fail('invalid_argument', 'bad_request', message);
}
