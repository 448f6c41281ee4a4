import { setImmediate as nextTurn } from 'node:timers/promises';
import { addCalls, type GeneratedToken } from '@causeway/engine';
import { ServiceError } from '@causeway/errors';
import { failpoint } from '@causeway/failpoints';
import type { ComputeOrder, PageSet } from '@causeway/kv';
import { type CommittedKv, ticketToProto } from '@causeway/kv-transport';
import { abortable, deadlineSignal } from '@causeway/lifecycle';
import { workerV1 } from '@causeway/proto';
import {
  assertServes,
  callsToProto,
  choicesFromProto,
  chunkTimes,
  computeOrderFromProto,
  finishReasonToProto,
  firstTokensOf,
  layerSpans,
  PromptScoreCollector,
  type RequestScope,
  requestScope,
  reservePages,
  tokenToProto,
  type Worker,
  type WorkerChoice,
} from '@causeway/worker-runtime';
import type { CallContext } from 'nice-grpc-common';
import { type CommandInbox, readCommands } from './command-inbox.ts';
import { type BegunChoice, writeChoices } from './write-choices.ts';

/** How long a failed transfer waits for the router to say `recompute` before the attempt fails. */
const RECOMPUTE_GRACE_MS = 2_000;

/** How long the router may take to read the end of an answer. */
const LAST_WORD_MS = 10_000;

const { KvOutcome } = workerV1;

/** KV of the prompt in pages of this worker, however it came there. */
interface ReadyKv {
  pages: PageSet;
  choices: readonly ReadyChoice[];
  report: workerV1.KvReady;
}

/** The choices of one attempt, at least one. */
type Choices = readonly [WorkerChoice, ...WorkerChoice[]];

interface ReadyChoice extends BegunChoice {
  /** The router has not seen `first` from anybody else. */
  firstIsOurs: boolean;
}

/**
 * One attempt at the answers to a prompt, all of its choices together: reserve -> ticket (or local prefill) -> KV committed -> decode -> finished. The stream is the lease:
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
  {
    const reserve = await abortable(inbox.reserve, context.signal);
    assertServes(worker, reserve.model);
    const choices = choicesFromProto(reserve.generation, worker.info, worker.maxContext);
    using scope = requestScope(worker, context, reserve.requestId, reserve.attempt);
    // Reading the call and serving it are more than one section of the event loop should hold.
    await nextTurn();

    let kv: ReadyKv | undefined;
    if (!reserve.local) {
      const order = computeOrderFromProto(reserve.computeOrder, worker.info.descriptor, choices[0].generation.promptIds.length);
      kv = yield* receiveKv(worker, choices, order, inbox, scope, context);
    }
    kv ??= yield* prefillHere(worker, choices, inbox, scope, reserve.local);

    using _pages = kv.pages;
    using _live = worker.live.add(reserve.requestId, kv.pages, choices[0].generation.promptIds.length);
    yield { event: { $case: 'kvReady', value: kv.report } };
    let generated = 0;
    let preemptions = 0;
    const expertCalls = new Map<string, number>();
    let reason: GeneratedToken['finishReason'];
    for (const { index, first, firstIsOurs } of kv.choices) {
      if (first === undefined) continue;
      generated++;
      reason = first.finishReason;
      if (firstIsOurs) yield { event: { $case: 'token', value: tokenToProto(first, reserve.attempt, index) } };
    }
    if (kv.choices.some(({ first }) => first?.finishReason === undefined)) {
      using decoding = scope.span.child('decode.steps');
      const layers = layerSpans(decoding);
      for await (const { index, token } of writeChoices(worker, kv.choices, kv.pages, inbox, scope.signal)) {
        generated++;
        reason = token.finishReason;
        preemptions += token.preemptions ?? 0;
        addCalls(expertCalls, token.expertCalls);
        layers(token.expertLayers);
        yield { event: { $case: 'token', value: tokenToProto(token, reserve.attempt, index) } };
      }
    }
    scope.span.set({ 'gen_ai.usage.output_tokens': generated });
    scope.log.info({ generated, choices: choices.length, reason, outcome: kv.report.outcome }, 'decoded');
    const finished = { reason: finishReasonToProto(reason), generatedTokens: generated, preemptions };
    yield { event: { $case: 'finished', value: { ...finished, expertCalls: callsToProto(expertCalls) } } };
  }
  // The router ends its side when it has read the last word. Before that this stream must not end: the connection of a worker that drains
  // closes with its last stream, and what its peer has not read by then is lost. Nor would anybody read a command that stops a choice.
  using grace = deadlineSignal(LAST_WORD_MS, context.signal);
  await abortable(inbox.ended, grace.signal).catch(() => undefined);
}

/** Gives a ticket and waits for the commit; undefined when the router wants the prompt prefilled here instead. */
async function* receiveKv(
  worker: Worker,
  choices: Choices,
  order: ComputeOrder | undefined,
  inbox: CommandInbox,
  scope: RequestScope,
  context: CallContext,
): AsyncGenerator<workerV1.DecodeEvent, ReadyKv | undefined> {
  const pages = await reservePages(worker, roomFor(worker, choices), scope);
  let kept = false;
  using receiving = scope.span.child('kv.receive');
  try {
    const deadlineMs = worker.config.ticketDeadlineMs;
    const tokens = choices[0].generation.promptIds.length;
    const transfer = worker.endpoint.receive({ pages, tokens, order, deadlineMs, signal: scope.signal });
    try {
      yield { event: { $case: 'ticket', value: ticketToProto(transfer.ticket) } };
      const committed = await Promise.race([transfer.committed, inbox.recompute.then(() => undefined)]);
      receiving.end();
      if (committed === undefined) return undefined;
      worker.metrics.kvConvertSeconds.observe({ side: 'receiver', chip: worker.config.chip }, committed.convertMs / 1000);
      await failpoint('committed_before_first_token');
      const firsts = firstsOfManifest(choices, committed, worker);
      kept = true;
      // The prefill worker may have died with its word to the router unsaid; the router drops what it has already.
      return { pages, choices: begun(choices, inbox, firsts), report: reportUsed(committed) };
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
  choices: Choices,
  inbox: CommandInbox,
  scope: RequestScope,
  local: boolean,
): AsyncGenerator<workerV1.DecodeEvent, ReadyKv> {
  const pages = await reservePages(worker, roomFor(worker, choices), scope);
  let kept = false;
  try {
    if (local) yield { event: { $case: 'reserved', value: {} } };
    const chunks = chunkTimes();
    const generations = choices.map(({ generation }) => generation);
    const scores = new PromptScoreCollector();
    const listeners = {
      onTokens: (end: number) => chunks.ended(end),
      onScores: scores.onScores,
      onExperts: layerSpans(scope.span),
    };
    const { firsts, prefillMs, expertCalls } = await worker.engine.prefillChoices(generations, pages, scope.signal, listeners);
    chunks.record(scope.span, prefillMs);
    for (const value of scores.messages()) yield { event: { $case: 'promptScores', value } };
    const outcome = local ? KvOutcome.KV_OUTCOME_LOCAL : KvOutcome.KV_OUTCOME_RECOMPUTED;
    kept = true;
    return {
      pages,
      // What the client has read stays; a recomputed near-tie must not change it.
      choices: begun(choices, inbox, firsts),
      report: {
        outcome,
        rawBytes: 0n,
        receivedBytes: 0n,
        prefilledTokens: choices[0].generation.promptIds.length,
        prefillMs,
        expertCalls: callsToProto(expertCalls),
        representation: undefined,
        convertMs: 0,
      },
    };
  } finally {
    if (!kept) pages[Symbol.dispose]();
  }
}

/** Tokens to reserve: the prompt once and the rest of each choice. */
function roomFor({ engine }: Worker, [first, ...others]: Choices): number {
  return engine.room(first.generation, ...others.map(({ generation }) => generation));
}

/** Choices with their first tokens: as the router told them, else as they are known here. */
function begun(choices: Choices, inbox: CommandInbox, firsts: readonly (GeneratedToken | undefined)[]): readonly ReadyChoice[] {
  return choices.map((choice, i) => {
    const told = inbox.firstToken(choice.index);
    return { ...choice, first: told ?? firsts[i], firstIsOurs: told === undefined };
  });
}

/** First tokens from the manifest, with what their places in the answers make of them. */
function firstsOfManifest(choices: Choices, committed: CommittedKv, { info }: Worker): (GeneratedToken | undefined)[] {
  const known = firstTokensOf(committed, choices.length === 1 ? choices[0].index : undefined, info.vocabSize);
  return choices.map(({ index, generation }) => {
    const token = known.get(index);
    if (token === undefined || generation.replayIds.length > 0) return undefined;
    const { stopTokenIds, ignoreEos, maxTokens, firstPosition: position } = generation;
    const ends = stopTokenIds.includes(token.id) || (!ignoreEos && info.eosTokenIds.includes(token.id));
    const finishReason = ends ? 'stop' : maxTokens === 1 ? 'length' : undefined;
    return { ...token, position, ...(finishReason === undefined ? {} : { finishReason }) };
  });
}

function reportUsed(committed: CommittedKv): workerV1.KvReady {
  return {
    outcome: KvOutcome.KV_OUTCOME_USED,
    rawBytes: BigInt(committed.rawBytes),
    receivedBytes: BigInt(committed.receivedBytes),
    prefilledTokens: 0,
    prefillMs: 0,
    expertCalls: [],
    representation: { ...committed.representation },
    convertMs: committed.convertMs,
  };
}
