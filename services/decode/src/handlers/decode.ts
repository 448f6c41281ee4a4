import { setImmediate as nextTurn } from 'node:timers/promises';
import type { GeneratedToken, Generation } from '@causeway/engine';
import { ServiceError } from '@causeway/errors';
import { failpoint } from '@causeway/failpoints';
import type { ComputeOrder, PageSet } from '@causeway/kv';
import { type CommittedKv, ticketToProto } from '@causeway/kv-transport';
import { abortable, deadlineSignal } from '@causeway/lifecycle';
import { workerV1 } from '@causeway/proto';
import {
  assertServes,
  chunkTimes,
  computeOrderFromProto,
  finishReasonToProto,
  firstTokenDetail,
  generationFromProto,
  type RequestScope,
  requestScope,
  reservePages,
  tokenToProto,
  type Worker,
} from '@causeway/worker-runtime';
import type { CallContext } from 'nice-grpc-common';
import { type CommandInbox, readCommands } from './command-inbox.ts';

/** How long a failed transfer waits for the router to say `recompute` before the attempt fails. */
const RECOMPUTE_GRACE_MS = 2_000;

const { KvOutcome } = workerV1;

/** KV of the prompt in pages of this worker, however it came there. */
interface ReadyKv {
  pages: PageSet;
  first: GeneratedToken | undefined;
  /** The router has not seen `first` from anybody else. */
  firstIsOurs: boolean;
  report: workerV1.KvReady;
}

/**
 * One attempt at an answer: reserve -> ticket (or local prefill) -> KV committed -> decode -> finished. The stream is the lease:
 * its end, from whatever cause, cancels the transfer and gives every page back.
 *
 * Fails with invalid_argument, not_found, resource_exhausted, unavailable as `prefill` does, and aborted when the transfer
 * failed and the router did not ask for `recompute`.
 */
export async function* decode(
  worker: Worker,
  commands: AsyncIterable<workerV1.DecodeCommand>,
  context: CallContext,
): AsyncGenerator<workerV1.DecodeEvent> {
  const inbox = readCommands(commands);
  const reserve = await abortable(inbox.reserve, context.signal);
  assertServes(worker, reserve.model);
  const generation = generationFromProto(reserve.generation, worker.info, worker.maxContext);
  using scope = requestScope(worker, context, reserve.requestId, reserve.attempt);
  // Reading the call and serving it are more than one section of the event loop should hold.
  await nextTurn();

  let kv: ReadyKv | undefined;
  if (!reserve.local) {
    const order = computeOrderFromProto(reserve.computeOrder, worker.info.descriptor, generation.promptIds.length);
    kv = yield* receiveKv(worker, generation, order, inbox, scope, context);
  }
  kv ??= yield* prefillHere(worker, generation, inbox, scope, reserve.local);

  using _pages = kv.pages;
  yield { event: { $case: 'kvReady', value: kv.report } };
  let generated = 0;
  let preemptions = 0;
  let reason = kv.first?.finishReason;
  if (kv.first !== undefined) {
    generated++;
    if (kv.firstIsOurs) yield { event: { $case: 'token', value: tokenToProto(kv.first, reserve.attempt) } };
  }
  if (reason === undefined) {
    using _decoding = scope.span.child('decode.steps');
    for await (const token of worker.engine.decode(generation, kv.pages, kv.first, scope.signal)) {
      generated++;
      reason = token.finishReason;
      preemptions = token.preemptions ?? 0;
      yield { event: { $case: 'token', value: tokenToProto(token, reserve.attempt) } };
    }
  }
  scope.span.set({ 'gen_ai.usage.output_tokens': generated });
  scope.log.info({ generated, reason, outcome: kv.report.outcome }, 'decoded');
  yield {
    event: { $case: 'finished', value: { reason: finishReasonToProto(reason), generatedTokens: generated, preemptions } },
  };
}

/** Gives a ticket and waits for the commit; undefined when the router wants the prompt prefilled here instead. */
async function* receiveKv(
  worker: Worker,
  generation: Generation,
  order: ComputeOrder | undefined,
  inbox: CommandInbox,
  scope: RequestScope,
  context: CallContext,
): AsyncGenerator<workerV1.DecodeEvent, ReadyKv | undefined> {
  const pages = await reservePages(worker, worker.engine.room(generation), scope);
  let kept = false;
  using receiving = scope.span.child('kv.receive');
  try {
    const deadlineMs = worker.config.ticketDeadlineMs;
    const tokens = generation.promptIds.length;
    const transfer = worker.endpoint.receive({ pages, tokens, order, deadlineMs, signal: scope.signal });
    try {
      yield { event: { $case: 'ticket', value: ticketToProto(transfer.ticket) } };
      const committed = await Promise.race([transfer.committed, inbox.recompute.then(() => undefined)]);
      receiving.end();
      if (committed === undefined) return undefined;
      await failpoint('committed_before_first_token');
      const told = inbox.firstToken();
      const first = told ?? firstOfManifest(generation, committed, worker);
      kept = true;
      // The prefill worker may have died with its word to the router unsaid; the router drops what it has already.
      return { pages, first, firstIsOurs: told === undefined, report: reportUsed(committed) };
    } catch (error) {
      if (context.signal.aborted) throw error;
      const failure = ServiceError.from(error);
      scope.log.warn({ err: failure }, 'the transfer failed; waiting for the router to ask for recompute');
      const { code, reason, retry, message } = failure;
      yield { event: { $case: 'kvFailed', value: { code, reason, retry, message } } };
      using grace = deadlineSignal(RECOMPUTE_GRACE_MS, scope.signal);
      await abortable(inbox.recompute, grace.signal).catch(() => {
        throw failure;
      });
      return undefined;
    } finally {
      transfer.cancel('the attempt ended');
    }
  } finally {
    if (!kept) pages[Symbol.dispose]();
  }
}

/** Prefills the prompt on this worker: `local`, which is told once there is room, or `recomputed` after a lost transfer. */
async function* prefillHere(
  worker: Worker,
  generation: Generation,
  inbox: CommandInbox,
  scope: RequestScope,
  local: boolean,
): AsyncGenerator<workerV1.DecodeEvent, ReadyKv> {
  const pages = await reservePages(worker, worker.engine.room(generation), scope);
  let kept = false;
  try {
    if (local) yield { event: { $case: 'reserved', value: {} } };
    const chunks = chunkTimes();
    const result = await worker.engine.prefill(generation, pages, scope.signal, (end) => chunks.ended(end));
    chunks.record(scope.span, result.prefillMs);
    const seen = inbox.firstToken();
    const outcome = local ? KvOutcome.KV_OUTCOME_LOCAL : KvOutcome.KV_OUTCOME_RECOMPUTED;
    kept = true;
    return {
      pages,
      // What the client has read stays; a recomputed near-tie must not change it.
      first: seen ?? result.first,
      firstIsOurs: seen === undefined,
      report: {
        outcome,
        rawBytes: 0n,
        receivedBytes: 0n,
        prefilledTokens: generation.promptIds.length,
        prefillMs: result.prefillMs,
        representation: undefined,
        convertMs: 0,
      },
    };
  } finally {
    if (!kept) pages[Symbol.dispose]();
  }
}

/** The first token from the manifest, with what its place in the answer makes of it. */
function firstOfManifest(generation: Generation, committed: CommittedKv, worker: Worker): GeneratedToken | undefined {
  if (committed.firstToken === undefined) return undefined;
  const id = committed.firstToken;
  const ends = generation.stopTokenIds.includes(id) || (!generation.ignoreEos && worker.info.eosTokenIds.includes(id));
  const finishReason = ends ? 'stop' : generation.maxTokens === 1 ? 'length' : undefined;
  const detail = firstTokenDetail(committed.firstTokenDetail);
  return { id, position: generation.firstPosition, ...detail, ...(finishReason === undefined ? {} : { finishReason }) };
}

function reportUsed(committed: CommittedKv): workerV1.KvReady {
  return {
    outcome: KvOutcome.KV_OUTCOME_USED,
    rawBytes: BigInt(committed.rawBytes),
    receivedBytes: BigInt(committed.receivedBytes),
    prefilledTokens: 0,
    prefillMs: 0,
    representation: { ...committed.representation },
    convertMs: committed.convertMs,
  };
}
