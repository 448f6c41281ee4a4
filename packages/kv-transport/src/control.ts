/** Control messages: bytes of unknown origin to checked values and back. */
import { fail, ServiceError } from '@causeway/errors';
import { kvV1 } from '@causeway/proto';
import { transferIdFromProto } from './wire-types.ts';

/** Largest control message that is read at all, bytes. */
export const MAX_CONTROL_BYTES = 1 << 18;

export type SenderMessage = NonNullable<kvV1.SenderControl['message']>;
export type ReceiverMessage = NonNullable<kvV1.ReceiverControl['message']>;

export interface Control<M> {
  transferId: string;
  epoch: number;
  message: M;
}

/** SenderControl as bytes. */
export function encodeSenderControl(control: Control<SenderMessage>): Uint8Array {
  return kvV1.SenderControl.encode({ ...control, transferId: Buffer.from(control.transferId, 'hex') }).finish();
}

/** ReceiverControl as bytes. */
export function encodeReceiverControl(control: Control<ReceiverMessage>): Uint8Array {
  return kvV1.ReceiverControl.encode({ ...control, transferId: Buffer.from(control.transferId, 'hex') }).finish();
}

/** Reads SenderControl. @throws ServiceError `malformed_frame` */
export function decodeSenderControl(data: Uint8Array): Control<SenderMessage> {
  return decode(data, (bytes) => kvV1.SenderControl.decode(bytes));
}

/** Reads ReceiverControl. @throws ServiceError `malformed_frame` */
export function decodeReceiverControl(data: Uint8Array): Control<ReceiverMessage> {
  return decode(data, (bytes) => kvV1.ReceiverControl.decode(bytes));
}

function decode<M>(
  data: Uint8Array,
  read: (data: Uint8Array) => { transferId: Uint8Array; epoch: number; message: M | undefined },
): Control<M> {
  if (data.length > MAX_CONTROL_BYTES) {
    fail('invalid_argument', 'malformed_frame', `a control message of ${data.length} bytes; ${MAX_CONTROL_BYTES} are the limit`);
  }
  let raw: { transferId: Uint8Array; epoch: number; message: M | undefined };
  try {
    raw = read(data);
  } catch (cause) {
    throw new ServiceError('a control message is no protobuf of this kind', {
      code: 'invalid_argument',
      reason: 'malformed_frame',
      cause,
    });
  }
  if (raw.message === undefined) fail('invalid_argument', 'malformed_frame', 'a control message of unknown kind');
  return { transferId: transferIdFromProto(raw.transferId), epoch: raw.epoch, message: raw.message };
}
