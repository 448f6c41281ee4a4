/**
 * Every NATS subject of the KV transport. All carry the wire version.
 *
 *   causeway.v1.kv.<worker>.<incarnation>.<transfer>          frames, to the receiver's bulk connection
 *   causeway.v1.kvctl.<worker>.<incarnation>.<transfer>.rx    SenderControl, to the receiver's control connection
 *   causeway.v1.kvctl.<worker>.<incarnation>.<transfer>.tx    ReceiverControl, to the sender's control connection
 */
import { fail } from '@causeway/errors';

const FRAMES = 'causeway.v1.kv';
const CONTROL = 'causeway.v1.kvctl';
const MAX_TOKEN_BYTES = 128;

/** Names one process life of a worker. */
export interface Incarnation {
  workerId: string;
  incarnation: string;
}

/** Where frames of a transfer go; the receiver's incarnation. */
export function frameSubject(receiver: Incarnation, transferId: string): string {
  return `${FRAMES}.${address(receiver)}.${transferId}`;
}

/** Where a receiver listens for SenderControl of a transfer. */
export function receiverControlSubject(receiver: Incarnation, transferId: string): string {
  return `${CONTROL}.${address(receiver)}.${transferId}.rx`;
}

/** Where a sender listens for ReceiverControl of a transfer. */
export function senderControlSubject(sender: Incarnation, transferId: string): string {
  return `${CONTROL}.${address(sender)}.${transferId}.tx`;
}

/** The one subscription of an incarnation's bulk connection. */
export function frameWildcard(self: Incarnation): string {
  return `${FRAMES}.${address(self)}.*`;
}

/** The one subscription of an incarnation's control connection. */
export function controlWildcard(self: Incarnation): string {
  return `${CONTROL}.${address(self)}.*.*`;
}

/** What a worker may publish and subscribe to; for the NATS server's authorization. */
export interface SubjectPermissions {
  publish: readonly string[];
  subscribe: readonly string[];
}

/**
 * The least that a worker needs. It hears its own subjects only. Prefill workers send frames to anybody, decode workers answer
 * anybody; towards itself a worker may do both, as it does while it warms up.
 */
export function subjectPermissions(role: 'prefill' | 'decode', workerId: string): SubjectPermissions {
  const self = subjectToken(workerId);
  const own = [`${FRAMES}.${self}.>`, `${CONTROL}.${self}.>`];
  const others = role === 'prefill' ? [`${FRAMES}.>`, `${CONTROL}.*.*.*.rx`] : [`${CONTROL}.*.*.*.tx`];
  return { publish: [...own, ...others], subscribe: own };
}

/** Transfer id at the end of a frame subject. */
export function transferOfFrameSubject(subject: string): string {
  return subject.slice(subject.lastIndexOf('.') + 1);
}

/** Transfer id and addressee (`rx` the receiver, `tx` the sender) at the end of a control subject. */
export function parseControlSubject(subject: string): { transferId: string; role: string } {
  const tokens = subject.split('.');
  return { transferId: tokens.at(-2) ?? '', role: tokens.at(-1) ?? '' };
}

/**
 * A name as one subject token: letters, digits, `-` and `_` stay, every other UTF-8 byte becomes `=XX`.
 * @throws ServiceError when the name is empty or its token is longer than 128 bytes
 */
export function subjectToken(name: string): string {
  const token = name.replace(/[^A-Za-z0-9_-]+/g, (text) =>
    [...Buffer.from(text, 'utf8')].map((byte) => `=${byte.toString(16).toUpperCase().padStart(2, '0')}`).join(''),
  );
  if (token.length === 0 || token.length > MAX_TOKEN_BYTES) {
    fail(
      'invalid_argument',
      'bad_config',
      `worker names have 1 to ${MAX_TOKEN_BYTES} bytes in a subject; this one has ${token.length}`,
    );
  }
  return token;
}

function address(of: Incarnation): string {
  return `${subjectToken(of.workerId)}.${subjectToken(of.incarnation)}`;
}
