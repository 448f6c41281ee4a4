/** What workers say during an attempt, as the router's own types; converted here, at the edge. */
import { fail, ServiceError } from '@causeway/errors';
import type { FinishReasonName, KvOutcomeName } from '@causeway/openai';
import { kvV1, workerV1 } from '@causeway/proto';

/** A ticket, passed from the decode worker to the prefill worker as it came. */
export type Ticket = kvV1.Ticket;

export interface WorkerToken {
  attempt: number;
  /** Which of the prompt's answers it belongs to. */
  choice: number;
  /** In the answer, from 0. */
  position: number;
  id: number;
  logprob: number;
  /** The likeliest at its place, as many as were asked for. */
  topLogprobs: readonly workerV1.TopLogprob[];
  /** Set on the last token of an answer. */
  finishReason: FinishReasonName | undefined;
  /** performance.now() at which it reached this process. */
  arrivedAt: number;
  /** As it came, to be passed on. */
  wire: workerV1.Token;
}

export interface KvReadyReport {
  outcome: KvOutcomeName;
  rawBytes: number;
  receivedBytes: number;
  prefilledTokens: number;
  prefillMs: number;
  expertCalls: readonly ShardCalls[];
  /** Of KV that travelled. */
  representation?: workerV1.KvRepresentation | undefined;
  /** From wire order to storage. */
  convertMs: number;
}

export interface TransferReport {
  rawBytes: number;
  sentBytes: number;
  codec: string;
  transferMs: number;
  prefillMs: number;
  queueMs: number;
  representation?: workerV1.KvRepresentation | undefined;
  /** From storage to wire order. */
  convertMs: number;
  expertCalls: readonly ShardCalls[];
}

/** Calls of experts in one shard. */
export interface ShardCalls {
  shard: string;
  calls: number;
}

/** How likely the prompt's own tokens are, from `position` on. */
export interface PromptScoresEvent {
  kind: 'prompt_scores';
  position: number;
  tokens: readonly workerV1.PromptScore[];
}

export type DecodeEvent =
  | { kind: 'ticket'; ticket: Ticket }
  | { kind: 'reserved' }
  /** The KV will not come; the decode worker waits to be told to prefill by itself. */
  | { kind: 'kv_failed'; error: ServiceError }
  | { kind: 'kv_ready'; report: KvReadyReport }
  | PromptScoresEvent
  | { kind: 'token'; token: WorkerToken }
  | { kind: 'finished'; preemptions: number; expertCalls: readonly ShardCalls[] }
  | { kind: 'decode_failed'; error: ServiceError };

export type PrefillEvent =
  | { kind: 'admitted'; tokensAhead: number }
  | { kind: 'started' }
  | PromptScoresEvent
  | { kind: 'first_token'; token: WorkerToken }
  | { kind: 'sent'; report: TransferReport }
  | { kind: 'prefill_failed'; error: ServiceError };

/** `quiet`: nothing came for so long that it is time to look at what is overdue. */
export type AttemptEvent = DecodeEvent | PrefillEvent | { kind: 'quiet' };

/** @throws ServiceError `internal` when the message holds nothing this router knows. */
export function decodeEvent(message: workerV1.DecodeEvent): DecodeEvent {
  const { event } = message;
  switch (event?.$case) {
    case 'ticket':
      return { kind: 'ticket', ticket: event.value };
    case 'reserved':
      return { kind: 'reserved' };
    case 'kvReady':
      return { kind: 'kv_ready', report: kvReady(event.value) };
    case 'promptScores':
      return { kind: 'prompt_scores', ...event.value };
    case 'token':
      return { kind: 'token', token: workerToken(event.value) };
    case 'finished':
      return { kind: 'finished', preemptions: event.value.preemptions, expertCalls: shardCalls(event.value.expertCalls) };
    case 'failed':
      return { kind: 'decode_failed', error: ServiceError.fromWire(event.value) };
    case 'kvFailed':
      return { kind: 'kv_failed', error: ServiceError.fromWire(event.value) };
    case undefined:
      return fail('internal', 'internal', 'the decode worker sent an event of an unknown kind', { retry: 'other' });
  }
}

/** @throws ServiceError `internal` when the message holds nothing this router knows. */
export function prefillEvent(message: workerV1.PrefillEvent): PrefillEvent {
  const { event } = message;
  switch (event?.$case) {
    case 'admitted':
      return { kind: 'admitted', tokensAhead: event.value.queuedTokensAhead };
    case 'started':
      return { kind: 'started' };
    case 'promptScores':
      return { kind: 'prompt_scores', ...event.value };
    case 'firstToken':
      return { kind: 'first_token', token: workerToken(event.value) };
    case 'sent':
      return { kind: 'sent', report: transferReport(event.value.stats) };
    case 'failed':
      return { kind: 'prefill_failed', error: ServiceError.fromWire(event.value) };
    case undefined:
      return fail('internal', 'internal', 'the prefill worker sent an event of an unknown kind', { retry: 'other' });
  }
}

function workerToken(wire: workerV1.Token): WorkerToken {
  const { attempt, choice, position, id, logprob, topLogprobs } = wire;
  const reason = finishReason(wire.finishReason);
  return { attempt, choice, position, id, logprob, topLogprobs, finishReason: reason, arrivedAt: performance.now(), wire };
}

function finishReason(reason: workerV1.FinishReason): FinishReasonName | undefined {
  switch (reason) {
    case workerV1.FinishReason.FINISH_REASON_STOP:
      return 'stop';
    case workerV1.FinishReason.FINISH_REASON_LENGTH:
      return 'length';
    case workerV1.FinishReason.FINISH_REASON_UNSPECIFIED:
    case workerV1.FinishReason.UNRECOGNIZED:
      return undefined;
  }
}

function kvReady(message: workerV1.KvReady): KvReadyReport {
  return {
    outcome: kvOutcome(message.outcome),
    rawBytes: Number(message.rawBytes),
    receivedBytes: Number(message.receivedBytes),
    prefilledTokens: message.prefilledTokens,
    prefillMs: message.prefillMs,
    expertCalls: shardCalls(message.expertCalls),
    representation: message.representation,
    convertMs: message.convertMs,
  };
}

function kvOutcome(outcome: workerV1.KvOutcome): KvOutcomeName {
  switch (outcome) {
    case workerV1.KvOutcome.KV_OUTCOME_USED:
      return 'used';
    case workerV1.KvOutcome.KV_OUTCOME_PARTIALLY_USED:
      return 'partially_used';
    case workerV1.KvOutcome.KV_OUTCOME_RECOMPUTED:
      return 'recomputed';
    case workerV1.KvOutcome.KV_OUTCOME_LOCAL:
      return 'local';
    case workerV1.KvOutcome.KV_OUTCOME_NOT_NEEDED:
      return 'not_needed';
    case workerV1.KvOutcome.KV_OUTCOME_UNSPECIFIED:
    case workerV1.KvOutcome.UNRECOGNIZED:
      return fail('internal', 'internal', 'the decode worker reported an unknown KV outcome', { retry: 'other' });
  }
}

function transferReport(stats: workerV1.TransferStats | undefined): TransferReport {
  return {
    rawBytes: Number(stats?.rawBytes ?? 0n),
    sentBytes: Number(stats?.sentBytes ?? 0n),
    codec: codecName(stats?.codec),
    transferMs: stats?.transferMs ?? 0,
    prefillMs: stats?.prefillMs ?? 0,
    queueMs: stats?.queueMs ?? 0,
    expertCalls: shardCalls(stats?.expertCalls ?? []),
    representation: stats?.representation,
    convertMs: stats?.convertMs ?? 0,
  };
}

function shardCalls(calls: readonly workerV1.ShardCalls[]): ShardCalls[] {
  return calls.map(({ shard, calls: count }) => ({ shard, calls: Number(count) }));
}

function codecName(codec: kvV1.KvCodec | undefined): string {
  switch (codec) {
    case kvV1.KvCodec.KV_CODEC_NONE:
      return 'none';
    case kvV1.KvCodec.KV_CODEC_ZSTD:
      return 'zstd';
    case kvV1.KvCodec.KV_CODEC_PLANES_ZSTD:
      return 'planes+zstd';
    default:
      return '';
  }
}
