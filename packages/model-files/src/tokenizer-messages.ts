/** What a TokenizerPool and its threads say to each other. */
import type { ErrorCode, ErrorReason } from '@causeway/errors';
import type { ChatMessage, RenderOptions } from './chat-template.ts';

/** A text, messages for the chat template, or what the program's own thread script works on. */
export type TokenizerJob =
  | { kind: 'text'; text: string }
  | { kind: 'chat'; messages: readonly ChatMessage[]; options: RenderOptions }
  | { kind: 'own'; input: unknown };

/** The answer to one job; a thread has one job at a time. The first message of a thread says that it is ready. */
export type TokenizerReply =
  | { kind: 'ready' }
  | { kind: 'done'; value: unknown }
  | { kind: 'failed'; code: ErrorCode; reason: ErrorReason; message: string; field: string | undefined };
