/** Thread that computes token masks; started by TokenConstraints with the vocabulary's bytes. */
import { parentPort, workerData } from 'node:worker_threads';
import { ServiceError } from '@causeway/errors';
import { GrammarError } from './grammar-error.ts';
import type { MatcherReply, MatcherRequest } from './matcher-messages.ts';
import { Matchers } from './matchers.ts';
import { type TokenBytes, Vocabulary } from './vocabulary.ts';

const port = parentPort;
if (port === null) throw new Error('matcher-worker.ts runs as a worker thread only');

const matchers = new Matchers(new Vocabulary(workerData as TokenBytes));

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
