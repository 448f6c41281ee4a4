import type { GeneratedToken } from '@causeway/engine';
import { fail, ServiceError } from '@causeway/errors';
import type { workerV1 } from '@causeway/proto';
import { tokenFromProto } from '@causeway/worker-runtime';

/** The router's side of one Decode stream, read as it comes. */
export interface CommandInbox {
  /** Resolves with the stream's first message, which must be `reserve`. */
  readonly reserve: Promise<workerV1.Reserve>;
  /** The first token, once the router has told it. */
  firstToken(): GeneratedToken | undefined;
  /** Resolves when the router asks for the prompt to be prefilled here. */
  readonly recompute: Promise<void>;
}

/** Reads `commands` until the client ends them or the call ends; an early end without `reserve` is `bad_request`. */
export function readCommands(commands: AsyncIterable<workerV1.DecodeCommand>): CommandInbox {
  const reserve = Promise.withResolvers<workerV1.Reserve>();
  const recompute = Promise.withResolvers<void>();
  let first: GeneratedToken | undefined;
  let reserved = false;
  const read = async (): Promise<void> => {
    for await (const { command } of commands) {
      if (!reserved && command?.$case !== 'reserve') {
        fail('invalid_argument', 'bad_request', `the first command must be reserve, not ${command?.$case ?? 'empty'}`);
      }
      switch (command?.$case) {
        case 'reserve':
          if (reserved) fail('invalid_argument', 'bad_request', 'reserve was sent twice');
          reserved = true;
          reserve.resolve(command.value);
          break;
        case 'firstToken':
          if (command.value.token !== undefined) first ??= tokenFromProto(command.value.token);
          break;
        case 'recompute':
          recompute.resolve();
          break;
        case undefined:
          break;
      }
    }
    if (!reserved) fail('invalid_argument', 'bad_request', 'the stream ended before reserve');
  };
  // After `reserve` a broken stream ends the call through its signal; nobody else waits here.
  read().catch((error: unknown) => reserve.reject(ServiceError.from(error)));
  return { reserve: reserve.promise, recompute: recompute.promise, firstToken: () => first };
}
