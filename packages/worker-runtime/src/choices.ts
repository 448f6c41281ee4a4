/** Several answers to one prompt, as the worker protocol and the manifest of a transfer carry them. */
import type { GeneratedToken, Generation, ModelInfo } from '@causeway/engine';
import { fail } from '@causeway/errors';
import type { CommittedKv, FirstTokenOptions } from '@causeway/kv-transport';
import { workerV1 } from '@causeway/proto';
import { answerLimit, generationFromProto, tokenIds, tokenToProto } from './convert.ts';

/** Most answers that a worker takes on one prompt: the APIs' own limit. */
const MAX_CHOICES = 16;

/** One answer to be generated; all of one request have the same `promptIds`, the array itself. */
export interface WorkerChoice {
  index: number;
  generation: Generation;
}

/**
 * Checks and converts what a request asks for; at least one.
 * @throws ServiceError `invalid_argument` as `generationFromProto`, and for too many choices or an index that comes twice
 */
export function choicesFromProto(
  message: workerV1.Generation | undefined,
  info: ModelInfo,
  maxContext: number,
): [WorkerChoice, ...WorkerChoice[]] {
  const [first, ...others] = message?.choices ?? [];
  if (message === undefined || first === undefined) {
    return [{ index: 0, generation: generationFromProto(message, info, maxContext) }];
  }
  checkIndexes([first, ...others]);
  const { replayIds, maxTokens, firstPosition } = first;
  const shared = generationFromProto({ ...message, replayIds, maxTokens, firstPosition }, info, maxContext);
  const choice = (own: workerV1.Choice): WorkerChoice => {
    const known = tokenIds(own.replayIds, 'choices.replay_ids', info.vocabSize);
    const generation = {
      ...shared,
      replayIds: known,
      maxTokens: answerLimit(shared.promptIds.length + known.length, own.maxTokens, maxContext),
      firstPosition: own.firstPosition,
      sampling: { ...shared.sampling, seed: own.seed },
    };
    return { index: own.index, generation };
  };
  return [choice(first), ...others.map(choice)];
}

function checkIndexes(choices: readonly workerV1.Choice[]): void {
  const field = 'generation.choices';
  if (choices.length > MAX_CHOICES) {
    fail('invalid_argument', 'bad_request', `a prompt has at most ${MAX_CHOICES} choices, not ${choices.length}`, { field });
  }
  if (new Set(choices.map(({ index }) => index)).size < choices.length) {
    fail('invalid_argument', 'bad_request', 'two choices have the same index', { field });
  }
}

/** The first token of one answer. */
export interface FirstOf {
  index: number;
  token: GeneratedToken;
}

/** What the manifest of a transfer says of first tokens. */
export function firstTokenOptions(firsts: readonly FirstOf[]): FirstTokenOptions {
  const [first] = firsts;
  if (first === undefined) return {};
  const tokens = firsts.map(({ index, token: { logits: _logits, ...token } }) => tokenToProto(token, 0, index));
  return { firstToken: first.token.id, firstTokenDetail: workerV1.FirstTokens.encode({ tokens }).finish() };
}

/**
 * First tokens as a manifest brought them, by choice. A sender that says no more than an id, or nothing readable, means the only
 * choice, `only`; with several choices its word is no use and they are computed here.
 */
export function firstTokensOf(
  { firstToken, firstTokenDetail }: Pick<CommittedKv, 'firstToken' | 'firstTokenDetail'>,
  only: number | undefined,
  vocabSize: number,
): ReadonlyMap<number, Pick<GeneratedToken, 'id' | 'logprob' | 'topLogprobs'>> {
  const tokens = readFirstTokens(firstTokenDetail).filter(({ id }) => id < vocabSize);
  if (tokens.length > 0) {
    return new Map(tokens.map(({ choice, id, logprob, topLogprobs }) => [choice, { id, logprob, topLogprobs }]));
  }
  if (firstToken === undefined || only === undefined || firstToken >= vocabSize) return new Map();
  return new Map([[only, { id: firstToken, logprob: 0 }]]);
}

function readFirstTokens(detail: Uint8Array | undefined): readonly workerV1.Token[] {
  if (detail === undefined) return [];
  try {
    return workerV1.FirstTokens.decode(detail).tokens;
  } catch {
    return [];
  }
}
