/** Thread that computes token masks; started by TokenConstraints with the vocabulary's bytes. */
import { parentPort, workerData } from 'node:worker_threads';
import { ServiceError } from '@causeway/errors';
import { GrammarError } from './grammar-error.ts';
import type { MatcherReply, MatcherRequest } from './matcher-messages.ts';
import { Matchers } from './matchers.ts';
import { type TokenBytes, Vocabulary } from './vocabulary.ts';

const port = parentPort;
if (port === null) throw new Error('matcher-worker.ts runs as a worker thread only');

/** Tokens written before the first request. */
const WARM_TOKENS = 50;

const matchers = new Matchers(new Vocabulary(workerData as TokenBytes));

try {
  warmUp();
} catch {
  // A vocabulary that can't write an object: the first text is told so.
}

/** Compiles the walk over the vocabulary: in a cold thread a first mask takes a hundred milliseconds. */
function warmUp(): void {
  const object = { constraint: { kind: 'json_object' }, endTokens: [], tokens: [] } as const;
  let mask = matchers.open(0, object);
  for (let length = 0; length < WARM_TOKENS; length++) {
    const word = mask.findIndex((bits) => bits !== 0);
    const bit = Math.clz32((mask[word] as number) & -(mask[word] as number));
    mask = matchers.accept(0, word * 32 + 31 - bit);
  }
  matchers.close(0);
}

function answer(request: Exclude<MatcherRequest, { kind: 'close' }>): MatcherReply {
  const { id } = request;
  try {
    const mask = request.kind === 'open' ? matchers.open(id, request) : matchers.accept(id, request.token);
    return { kind: 'mask', id, tokens: matchers.length(id), mask };
  } catch (error) {
    const { code, reason, message } =
      error instanceof GrammarError ? error.toServiceError('constraint') : ServiceError.from(error);
    return { kind: 'failed', id, code, reason, message };
  }
}

port.on('message', (request: MatcherRequest) => {
  if (request.kind === 'close') matchers.close(request.id);
  else port.postMessage(answer(request));
});

port.postMessage({ kind: 'ready' } satisfies MatcherReply);
