/** Arithmetic over the records of a run. Definitions as of vLLM's serving benchmark. */
import type { RequestRecord } from './timed-request.ts';

export interface Distribution {
  count: number;
  mean: number;
  p50: number;
  p90: number;
  p95: number;
  p99: number;
  max: number;
}

/** Limits of a good request, milliseconds. */
export interface Slo {
  ttft?: number;
  tpot?: number;
  e2e?: number;
}

export interface LoadSummary {
  requests: { sent: number; completed: number; failed: number; unfinished: number };
  /** Most frequent first. */
  errors: { error: string; count: number }[];
  /** From the first request to the end of the last answer. */
  seconds: number;
  requestsPerSecond: number;
  promptTokens: number;
  outputTokens: number;
  outputTokensPerSecond: number;
  /** Request sent to first text. */
  ttftMs: Distribution | undefined;
  /** Between pieces of text, over all of them. */
  itlMs: Distribution | undefined;
  /** First text to the end, by the answer's tokens after the first. */
  tpotMs: Distribution | undefined;
  /** Request sent to the end of the answer. */
  e2eMs: Distribution | undefined;
  /** How much later than planned requests were sent: a late generator measures itself. */
  lateMs: Distribution | undefined;
  goodput: { slo: Slo; good: number; requestsPerSecond: number } | undefined;
  /** Tokens counted by pieces of text, where the server did not say how many there were. */
  tokensEstimated: boolean;
}

/** Linear interpolation between the closest ranks, as numpy.percentile does. `sorted` ascending, not empty; q in [0, 1]. */
export function quantile(sorted: ArrayLike<number>, q: number): number {
  const at = q * (sorted.length - 1);
  const low = Math.floor(at);
  const [a = Number.NaN, b = a] = [sorted[low], sorted[Math.min(low + 1, sorted.length - 1)]];
  return a + (b - a) * (at - low);
}

export function distribution(values: readonly number[]): Distribution | undefined {
  if (values.length === 0) return undefined;
  const sorted = Float64Array.from(values).sort();
  return {
    count: sorted.length,
    mean: sorted.reduce((sum, value) => sum + value, 0) / sorted.length,
    p50: quantile(sorted, 0.5),
    p90: quantile(sorted, 0.9),
    p95: quantile(sorted, 0.95),
    p99: quantile(sorted, 0.99),
    max: sorted.at(-1) as number,
  };
}

/** Output tokens of a completed request: as the server counted, else the pieces of text. */
export function outputTokens(record: RequestRecord): number {
  return record.completionTokens ?? record.chunkMs.length;
}

/** Milliseconds per token after the first; undefined for an answer of one token. */
export function timePerOutputToken(record: RequestRecord): number | undefined {
  const [first] = record.chunkMs;
  const last = record.chunkMs.at(-1);
  const tokens = outputTokens(record);
  return first === undefined || last === undefined || tokens < 2 ? undefined : (last - first) / (tokens - 1);
}

function isGood(record: RequestRecord, slo: Slo): boolean {
  const within = (value: number | undefined, limit: number | undefined): boolean =>
    limit === undefined || (value !== undefined && value <= limit);
  // An answer of one token has no time between tokens to be late in.
  return (
    within(record.chunkMs[0], slo.ttft) && within(timePerOutputToken(record) ?? 0, slo.tpot) && within(record.endMs, slo.e2e)
  );
}

function countErrors(records: readonly RequestRecord[]): LoadSummary['errors'] {
  const counts = new Map<string, number>();
  for (const { outcome } of records) {
    if (outcome.kind === 'failed') counts.set(outcome.error, (counts.get(outcome.error) ?? 0) + 1);
  }
  return [...counts].map(([error, count]) => ({ error, count })).sort((a, b) => b.count - a.count);
}

/** Rates count completed answers only; failed and unfinished ones are shown beside them. */
export function summarize(records: readonly RequestRecord[], slo: Slo | undefined): LoadSummary {
  const completed = records.filter(({ outcome }) => outcome.kind === 'completed');
  const start = records.reduce((least, { sentMs }) => Math.min(least, sentMs), Number.POSITIVE_INFINITY);
  const end = records.reduce((most, { sentMs, endMs }) => Math.max(most, sentMs + endMs), 0);
  const seconds = records.length === 0 ? 0 : (end - start) / 1000;
  const rate = (count: number): number => (seconds === 0 ? 0 : count / seconds);
  const sum = (of: (record: RequestRecord) => number): number => completed.reduce((total, record) => total + of(record), 0);
  const gaps = completed.flatMap(({ chunkMs }) => chunkMs.slice(1).map((at, i) => at - (chunkMs[i] as number)));
  const good = slo === undefined ? 0 : completed.filter((record) => isGood(record, slo)).length;
  const outputs = sum(outputTokens);
  return {
    requests: {
      sent: records.length,
      completed: completed.length,
      failed: records.filter(({ outcome }) => outcome.kind === 'failed').length,
      unfinished: records.filter(({ outcome }) => outcome.kind === 'unfinished').length,
    },
    errors: countErrors(records),
    seconds,
    requestsPerSecond: rate(completed.length),
    promptTokens: sum(({ promptTokens }) => promptTokens ?? 0),
    outputTokens: outputs,
    outputTokensPerSecond: rate(outputs),
    ttftMs: distribution(completed.flatMap(({ chunkMs }) => chunkMs.slice(0, 1))),
    itlMs: distribution(gaps),
    tpotMs: distribution(completed.map(timePerOutputToken).filter((ms) => ms !== undefined)),
    e2eMs: distribution(completed.map(({ endMs }) => endMs)),
    lateMs: distribution(records.map(({ lateMs }) => lateMs)),
    goodput: slo === undefined ? undefined : { slo, good, requestsPerSecond: rate(good) },
    tokensEstimated: completed.some(({ completionTokens }) => completionTokens === undefined),
  };
}
