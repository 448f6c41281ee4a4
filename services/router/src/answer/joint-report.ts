import type { CausewayReport, KvOutcomeName } from '@causeway/openai';

/**
 * One report on all prompts of a request: what was moved and computed is summed, times of the first tokens are the earliest prompt's,
 * workers and codecs are named each once. The outcome is `partially_used` when only some prompts' KV was used as it was sent.
 */
export function jointReport(reports: readonly CausewayReport[]): CausewayReport {
  const [first, ...others] = reports as [CausewayReport, ...CausewayReport[]];
  if (others.length === 0) return first;
  const sum = (of: (report: CausewayReport) => number): number => reports.reduce((total, report) => total + of(report), 0);
  const names = (of: (report: CausewayReport) => string): string =>
    [...new Set(reports.map(of).filter((name) => name !== ''))].join(',');
  const earliest = reports.reduce((least, report) => (report.ttft_ms < least.ttft_ms ? report : least));
  return {
    outcome: jointOutcome(reports.map(({ outcome }) => outcome)),
    bytes_raw: sum((report) => report.bytes_raw),
    bytes_sent: sum((report) => report.bytes_sent),
    codec: names((report) => report.codec),
    transfer_ms: sum((report) => report.transfer_ms),
    prefill_ms: sum((report) => report.prefill_ms),
    queue_ms: sum((report) => report.queue_ms),
    ttft_ms: earliest.ttft_ms,
    handoff_gap_ms: earliest.handoff_gap_ms,
    prefill_worker: names((report) => report.prefill_worker),
    prefill_chip: names((report) => report.prefill_chip),
    decode_worker: names((report) => report.decode_worker),
    decode_chip: names((report) => report.decode_chip),
    attempts: sum((report) => report.attempts),
    preemptions: sum((report) => report.preemptions),
    prefill_storage: names((report) => report.prefill_storage),
    decode_storage: names((report) => report.decode_storage),
    wire_dtype: names((report) => report.wire_dtype),
    rounded: reports.some((report) => report.rounded),
    convert_ms: sum((report) => report.convert_ms),
    ...jointCalls(reports),
  };
}

/** Expert calls of all, by shard. */
function jointCalls(reports: readonly CausewayReport[]): Pick<CausewayReport, 'expert_calls'> {
  const calls = new Map<string, number>();
  for (const { expert_calls: own = {} } of reports) {
    for (const [shard, count] of Object.entries(own)) calls.set(shard, (calls.get(shard) ?? 0) + count);
  }
  return calls.size === 0 ? {} : { expert_calls: Object.fromEntries(calls) };
}

/** What all have in common; else `partially_used` when any KV that travelled was used, else the first that says something. */
function jointOutcome(outcomes: readonly KvOutcomeName[]): KvOutcomeName {
  const kinds = [...new Set(outcomes)];
  const [only] = kinds;
  if (only !== undefined && kinds.length === 1) return only;
  if (kinds.includes('used') || kinds.includes('partially_used')) return 'partially_used';
  return kinds.find((kind) => kind !== 'not_needed') ?? 'not_needed';
}
