/** Between the worker protocol's messages and the engine's values. Everything that comes in is checked here. */
import type { ExpertCalls, FinishReason, GeneratedToken, Generation, ModelInfo, Sampling } from '@causeway/engine';
import { fail } from '@causeway/errors';
import type { TransferStats } from '@causeway/kv-transport';
import { codecToProto } from '@causeway/kv-transport';
import { workerV1 } from '@causeway/proto';
import { constraintFromProto } from './constraint.ts';

/**
 * Checks and converts what a request asks for.
 * @throws ServiceError `invalid_argument` naming the field: empty prompt, ids outside the vocabulary, too long for the context, bad sampling.
 */
export function generationFromProto(message: workerV1.Generation | undefined, info: ModelInfo, maxContext: number): Generation {
  if (message === undefined) fail('invalid_argument', 'bad_request', 'generation is missing', { field: 'generation' });
  const sampling = message.sampling;
  if (sampling === undefined) fail('invalid_argument', 'bad_sampling', 'sampling is missing', { field: 'generation.sampling' });
  const promptIds = tokenIds(message.promptIds, 'prompt_ids', info.vocabSize);
  const replayIds = tokenIds(message.replayIds, 'replay_ids', info.vocabSize);
  if (promptIds.length === 0) {
    fail('invalid_argument', 'empty_prompt', 'the prompt has no tokens', { field: 'generation.prompt_ids' });
  }
  const maxTokens = answerLimit(promptIds.length + replayIds.length, message.maxTokens, maxContext);
  if (!(sampling.temperature >= 0) || !(sampling.topP > 0 && sampling.topP <= 1)) {
    fail(
      'invalid_argument',
      'bad_sampling',
      `temperature ${sampling.temperature} must be >= 0 and top_p ${sampling.topP} in (0, 1]`,
      {
        field: 'generation.sampling',
      },
    );
  }
  const constraint = constraintFromProto(message.constraint);
  return {
    promptIds,
    replayIds,
    maxTokens,
    stopTokenIds: message.stopTokenIds,
    ignoreEos: message.ignoreEos,
    minTokens: message.minTokens,
    sampling: samplingFromProto(sampling),
    firstPosition: message.firstPosition,
    returnLogits: message.returnLogits,
    exactResume: message.exactResume,
    topLogprobs: message.topLogprobs,
    ...(constraint === undefined ? {} : { constraint }),
    ...(message.promptLogprobs === undefined ? {} : { promptLogprobs: message.promptLogprobs }),
  };
}

/** Tokens that an answer after `length` tokens may have. @throws ServiceError `prompt_too_long`, or `bad_request` for none at all */
export function answerLimit(length: number, maxTokens: number, maxContext: number): number {
  if (length >= maxContext) {
    const message = `the prompt has ${length} tokens; this worker's context holds ${maxContext} with the answer`;
    fail('invalid_argument', 'prompt_too_long', message, { field: 'generation.prompt_ids' });
  }
  if (maxTokens < 1) {
    fail('invalid_argument', 'bad_request', 'max_tokens must be at least 1', { field: 'generation.max_tokens' });
  }
  return Math.min(maxTokens, maxContext - length);
}

/** Values are checked by the engine. */
function samplingFromProto(message: workerV1.Sampling): Sampling {
  const { temperature, topP, topK, seed, minP, repetitionPenalty, presencePenalty, frequencyPenalty, logitBias } = message;
  return {
    temperature,
    topP,
    topK,
    seed,
    minP,
    // Not set by a sender that knows of none.
    repetitionPenalty: repetitionPenalty === 0 ? 1 : repetitionPenalty,
    presencePenalty,
    frequencyPenalty,
    logitBias,
  };
}

/** @throws ServiceError `invalid_token` naming the place in `field`. */
export function tokenIds(ids: readonly number[], field: string, vocabSize: number): Uint32Array {
  for (let i = 0; i < ids.length; i++) {
    const id = ids[i] as number;
    if (id >= vocabSize) {
      fail('invalid_argument', 'invalid_token', `${field}[${i}] is ${id}; the vocabulary has ${vocabSize} tokens`, {
        field: `generation.${field}`,
      });
    }
  }
  return Uint32Array.from(ids);
}

/** The wire's finish reason. */
export function finishReasonToProto(reason: FinishReason | undefined): workerV1.FinishReason {
  switch (reason) {
    case 'stop':
      return workerV1.FinishReason.FINISH_REASON_STOP;
    case 'length':
      return workerV1.FinishReason.FINISH_REASON_LENGTH;
    case undefined:
      return workerV1.FinishReason.FINISH_REASON_UNSPECIFIED;
  }
}

function finishReasonFromProto(reason: workerV1.FinishReason): FinishReason | undefined {
  if (reason === workerV1.FinishReason.FINISH_REASON_STOP) return 'stop';
  if (reason === workerV1.FinishReason.FINISH_REASON_LENGTH) return 'length';
  return undefined;
}

/** A generated token as the wire carries it. */
export function tokenToProto(token: GeneratedToken, attempt: number, choice = 0): workerV1.Token {
  return {
    attempt,
    position: token.position,
    id: token.id,
    logprob: token.logprob,
    finishReason: finishReasonToProto(token.finishReason),
    logits:
      token.logits === undefined
        ? new Uint8Array(0)
        : new Uint8Array(token.logits.buffer, token.logits.byteOffset, token.logits.byteLength),
    topLogprobs: token.topLogprobs?.map(({ id, logprob }) => ({ id, logprob })) ?? [],
    choice,
  };
}

/** A token that came over the wire; logits are dropped. */
export function tokenFromProto(token: workerV1.Token): GeneratedToken {
  const finishReason = finishReasonFromProto(token.finishReason);
  return {
    id: token.id,
    position: token.position,
    logprob: token.logprob,
    topLogprobs: token.topLogprobs,
    ...(finishReason === undefined ? {} : { finishReason }),
  };
}

/** Counts of a transfer and the times around it, milliseconds. */
export function statsToProto(
  stats: TransferStats,
  { prefillMs, queueMs, expertCalls }: { prefillMs: number; queueMs: number; expertCalls: ExpertCalls },
): workerV1.TransferStats {
  return {
    rawBytes: BigInt(stats.rawBytes),
    sentBytes: BigInt(stats.sentBytes),
    frames: stats.frames,
    resentParts: stats.resentParts,
    codec: codecToProto(stats.codec),
    transferMs: stats.transferMs,
    prefillMs,
    queueMs,
    expertCalls: callsToProto(expertCalls),
    representation: { ...stats.representation },
    convertMs: stats.convertMs,
  };
}

/** Expert calls as the wire carries them, by shard. */
export function callsToProto(calls: ExpertCalls | undefined): workerV1.ShardCalls[] {
  return [...(calls ?? [])].map(([shard, count]) => ({ shard, calls: BigInt(count) }));
}
