import { setImmediate as nextTurn } from 'node:timers/promises';
import type { workerV1 } from '@causeway/proto';
import { ticketFromProto, type TransferStats } from '@causeway/kv-transport';
import {
  assertServes,
  choicesFromProto,
  chunkTimes,
  type FirstOf,
  firstTokenOptions,
  layerSpans,
  PromptScoreCollector,
  requestScope,
  reservePages,
  statsToProto,
  tokenToProto,
  type Worker,
} from '@causeway/worker-runtime';
import type { CallContext } from 'nice-grpc-common';

/**
 * Reads a prompt and sends its KV: check -> reserve pages -> open the transfer -> prefill in chunks, finished pages leaving
 * meanwhile -> first token of each choice -> commit. Events: admitted, started, first_token, sent. Whatever ends the call gives the pages back.
 *
 * Fails with invalid_argument (bad request), not_found (another model), failed_precondition (fingerprint or descriptor of
 * the ticket differ), resource_exhausted (no pages, line full), unavailable (draining), aborted (the transfer failed).
 */
export async function* prefill(
  worker: Worker,
  request: workerV1.PrefillRequest,
  context: CallContext,
): AsyncGenerator<workerV1.PrefillEvent> {
  const arrived = performance.now();
  assertServes(worker, request.model);
  const choices = choicesFromProto(request.generation, worker.info, worker.maxContext);
  const generations = choices.map(({ generation }) => generation);
  const tokens = choices[0].generation.promptIds.length;
  const ticket = ticketFromProto(request.ticket);
  using scope = requestScope(worker, context, request.requestId, request.attempt);
  // Reading the call and serving it are more than one section of the event loop should hold.
  await nextTurn();

  yield { event: { $case: 'admitted', value: { queuedTokensAhead: worker.engine.stats().queuedPromptTokens } } };
  using pages = await reservePages(worker, tokens, scope);
  using sending = scope.span.child('kv.send', { 'causeway.to': ticket.workerId });
  const transfer = worker.endpoint.send({ ticket, pages, signal: scope.signal });
  const inVain = (): void => scope.abort(transfer.failed.reason);
  transfer.failed.addEventListener('abort', inVain, { once: true });
  using _transfer = {
    [Symbol.dispose]: () => {
      transfer.failed.removeEventListener('abort', inVain);
      transfer.abort('the call ended');
      countBytes(worker, ticket.chip, transfer.stats);
    },
  };
  const queueMs = performance.now() - arrived;
  yield { event: { $case: 'started', value: {} } };

  const chunks = chunkTimes();
  const scores = new PromptScoreCollector();
  const result = await worker.engine.prefillChoices(generations, pages, scope.signal, {
    onTokens: (end, layers) => {
      chunks.ended(end);
      transfer.offer(end, layers);
      if (end === tokens) transfer.offerFinal(layers);
    },
    onScores: scores.onScores,
    onExperts: layerSpans(scope.span),
  });
  const computed = performance.now();
  const { prefillMs, expertCalls } = result;
  chunks.record(scope.span, prefillMs);
  for (const value of scores.messages()) yield { event: { $case: 'promptScores', value } };
  const firsts: FirstOf[] = choices.flatMap(({ index }, i) => {
    const token = result.firsts[i];
    return token === undefined ? [] : [{ index, token }];
  });
  for (const { index, token } of firsts) {
    yield { event: { $case: 'firstToken', value: tokenToProto(token, request.attempt, index) } };
  }

  const stats = await transfer.finish(firstTokenOptions(firsts));
  const tailMs = performance.now() - computed;
  sending.set({
    'causeway.kv.codec': stats.codec,
    'causeway.kv.bytes_raw': stats.rawBytes,
    'causeway.kv.bytes_sent': stats.sentBytes,
  });
  sending.end();
  const link = linkLabels(worker, ticket.chip, stats);
  worker.metrics.kvTransferRawBytes.inc(link, stats.rawBytes);
  worker.metrics.kvTransferSeconds.observe(link, stats.transferMs / 1000);
  worker.metrics.kvConvertSeconds.observe({ side: 'sender', chip: worker.config.chip }, stats.convertMs / 1000);
  worker.metrics.kvTransferTailSeconds.observe(link, tailMs / 1000);
  scope.log.info(
    { ...stats, tailMs, prefillMs, queueMs, tokens, choices: choices.length, to: ticket.workerId },
    'prefilled and sent',
  );
  yield { event: { $case: 'sent', value: { stats: statsToProto(stats, { prefillMs, queueMs, expertCalls }) } } };
}

/** What went over the wire counts, whatever became of the transfer. */
function countBytes(worker: Worker, chip: string, stats: TransferStats): void {
  if (stats.sentBytes > 0) worker.metrics.kvTransferBytes.inc(linkLabels(worker, chip, stats), stats.sentBytes);
}

function linkLabels(worker: Worker, chip: string, stats: TransferStats): { codec: string; src_chip: string; dst_chip: string } {
  return { codec: stats.codec, src_chip: worker.config.chip, dst_chip: chip };
}
