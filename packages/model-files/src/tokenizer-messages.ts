/** What a TokenizerPool and its threads say to each other. */
import type { ErrorCode, ErrorReason } from '@causeway/errors';
import type { ChatMessage } from './chat-template.ts';

/** A text, or messages for the chat template. */
export type TokenizerJob = { kind: 'text'; text: string } | { kind: 'chat'; messages: readonly ChatMessage[] };

/** The answer to one job; a thread has one job at a time. The first message of a thread says that it is ready. */
export type TokenizerReply =
  | { kind: 'ready' }
  | { kind: 'ids'; ids: Uint32Array }
  | { kind: 'failed'; code: ErrorCode; reason: ErrorReason; message: string; field: string | undefined };
