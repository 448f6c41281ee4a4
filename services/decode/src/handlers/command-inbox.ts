import type { GeneratedToken } from '@causeway/engine';
import { fail, ServiceError } from '@causeway/errors';
import type { workerV1 } from '@causeway/proto';
import { tokenFromProto } from '@causeway/worker-runtime';

/** The router's side of one Decode stream, read as it comes. */
export interface CommandInbox {
  /** Resolves with the stream's first message, which must be `reserve`. */
  readonly reserve: Promise<workerV1.Reserve>;
  /** The first token of a choice, once the router has told it. */
  firstToken(choice: number): GeneratedToken | undefined;
  /** Resolves when the router asks for the prompt to be prefilled here. */
  readonly recompute: Promise<void>;
  /** Aborts when the router wants no more of a choice. */
  stopped(choice: number): AbortSignal;
  /** Resolves when no more commands come. */
  readonly ended: Promise<void>;
}

/** Reads `commands` until the client ends them or the call ends; an early end without `reserve` is `bad_request`. */
export function readCommands(commands: AsyncIterable<workerV1.DecodeCommand>): CommandInbox {
  const reserve = Promise.withResolvers<workerV1.Reserve>();
  const recompute = Promise.withResolvers<void>();
  const firsts = new Map<number, GeneratedToken>();
  const stops = new Map<number, AbortController>();
  const stopOf = (choice: number): AbortController => {
    const stop = stops.get(choice) ?? new AbortController();
    stops.set(choice, stop);
    return stop;
  };
  let reserved = false;
  /** Choices that there are: a sender can't have others remembered. */
  const known = new Set([0]);
  const takeFirst = (token: workerV1.Token): void => {
    if (known.has(token.choice) && !firsts.has(token.choice)) firsts.set(token.choice, tokenFromProto(token));
  };
  const read = async (): Promise<void> => {
    for await (const { command } of commands) {
      if (!reserved && command?.$case !== 'reserve') {
        fail('invalid_argument', 'bad_request', `the first command must be reserve, not ${command?.$case ?? 'empty'}`);
      }
      switch (command?.$case) {
        case 'reserve':
          if (reserved) fail('invalid_argument', 'bad_request', 'reserve was sent twice');
          reserved = true;
          for (const { index } of command.value.generation?.choices ?? []) known.add(index);
          reserve.resolve(command.value);
          break;
        case 'firstToken':
          if (command.value.token !== undefined) takeFirst(command.value.token);
          break;
        case 'recompute':
          recompute.resolve();
          break;
        case 'stopChoice':
          if (known.has(command.value.choice)) stopOf(command.value.choice).abort();
          break;
        case undefined:
          break;
      }
    }
    if (!reserved) fail('invalid_argument', 'bad_request', 'the stream ended before reserve');
  };
  // After `reserve` a broken stream ends the call through its signal; nobody else waits here.
  const ended = read().catch((error: unknown) => reserve.reject(ServiceError.from(error)));
  return {
    reserve: reserve.promise,
    recompute: recompute.promise,
    firstToken: (choice) => firsts.get(choice),
    stopped: (choice) => stopOf(choice).signal,
    ended,
  };
}
