/** The engine's steps of one call, as spans of its trace. */
import type { ExpertLayer, SequencePages } from '@causeway/engine';
import type { TraceSpan } from '@causeway/telemetry';
import type { RequestScope } from './request-scope.ts';
import type { Worker } from './worker.ts';

/** Waits for pages for `tokens` tokens; the wait is the span `reserve`. */
export async function reservePages(worker: Worker, tokens: number, scope: RequestScope): Promise<SequencePages> {
  using _span = scope.span.child('reserve', { 'causeway.tokens': tokens });
  return await worker.engine.reserve(tokens, scope.signal);
}

/** Notes when each chunk of a prompt was done; made when the prompt gets in line. */
export interface ChunkTimes {
  /** The tokens before `end` are in pages, or those of more layers: the last time counts. */
  ended(end: number): void;
  /** After the last chunk: a span `prefill.chunk` for each; `prefillMs` from the first one's begin to now. */
  record(span: TraceSpan, prefillMs: number): void;
}

export function chunkTimes(): ChunkTimes {
  const askedAt = performance.now();
  const ends: { at: number; end: number }[] = [];
  return {
    ended: (end) => {
      if (ends.at(-1)?.end === end) ends.pop();
      ends.push({ at: performance.now(), end });
    },
    record: (span, prefillMs) => {
      let from = performance.now() - prefillMs;
      span.record('prefill.queue', askedAt, from);
      let first = 0;
      for (const { at, end } of ends) {
        span.record('prefill.chunk', from, at, { 'causeway.first_token': first, 'causeway.tokens': end - first });
        from = at;
        first = end;
      }
    },
  };
}

/** A request's spans of layers; a long answer of a deep model would have more than an exporter takes. */
const MOST_LAYER_SPANS = 512;

/** Takes layers of experts elsewhere: each is a span `moe.layer`, up to a number. Does nothing when the request isn't traced. */
export function layerSpans(span: TraceSpan): (layers: readonly ExpertLayer[] | undefined) => void {
  let left = span.recording ? MOST_LAYER_SPANS : 0;
  let last: readonly ExpertLayer[] | undefined;
  return (layers = []) => {
    // Choices of one attempt share their steps.
    if (layers === last) return;
    last = layers;
    for (const { layer, startedAt, endedAt, tokens, shards, networkMs, queueMs, computeMs } of layers.slice(0, left)) {
      left--;
      span.record('moe.layer', startedAt, endedAt, {
        'causeway.layer': layer,
        'causeway.tokens': tokens,
        'causeway.shards': shards,
        'causeway.network_ms': networkMs,
        'causeway.queue_ms': queueMs,
        'causeway.compute_ms': computeMs,
      });
    }
  };
}
