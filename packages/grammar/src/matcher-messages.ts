/** What TokenConstraints and its thread say to each other. */
import type { ErrorCode, ErrorReason } from '@causeway/errors';
import type { OpenMatcher } from './matchers.ts';
import type { TokenMask } from './token-mask.ts';

/** Answered in order, but for `close`, which is not. */
export type MatcherRequest =
  | ({ kind: 'open'; id: number } & OpenMatcher)
  | { kind: 'accept'; id: number; token: number }
  | { kind: 'close'; id: number };

export type MatcherReply =
  /** Once, before any other: the thread works. */
  | { kind: 'ready' }
  /** Of the token after so many. */
  | { kind: 'mask'; id: number; tokens: number; mask: TokenMask }
  | { kind: 'failed'; id: number; code: ErrorCode; reason: ErrorReason; message: string };
