/** For this package's tests and for tests of the wire. */
export { encodeReceiverControl, encodeSenderControl } from './control.ts';
export { FRAME_HEADER_BYTES, FRAME_VERSION, readFrameHeader, writeFrameHeader } from './frame.ts';
export type { FrameHeader } from './frame.ts';
export { objectFromProto } from './object-wire.ts';
export { controlWildcard, frameSubject, frameWildcard, receiverControlSubject, senderControlSubject } from './subjects.ts';
