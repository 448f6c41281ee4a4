import type { CausewayReport, KvOutcomeName } from '@causeway/openai';
import type { KvReadyReport, ShardCalls, TransferReport } from '../attempt/events.ts';

/** A worker, as the report names it. */
export interface WorkerName {
  id: string;
  chip: string;
  emulated: boolean;
}

/** Collects, over all attempts, what became of the KV of a request. */
export class KvReport {
  #decode: WorkerName | undefined;
  #prefill: WorkerName | undefined;
  #ready: KvReadyReport | undefined;
  #transfer: TransferReport | undefined;
  /** A remote prefill was lost: what is local afterwards was computed a second time. */
  #remoteLost = false;
  #routerQueueMs = 0;
  #prefillQueueMs = 0;
  readonly #expertCalls = new Map<string, number>();
  attempts = 0;
  preemptions = 0;

  /** A new attempt on these workers. */
  begin(decode: WorkerName, prefill: WorkerName | undefined): void {
    if (this.#prefill !== undefined && this.#ready === undefined) this.#remoteLost = true;
    this.attempts++;
    this.#decode = decode;
    this.#prefill = prefill;
    this.#ready = undefined;
    this.#transfer = undefined;
  }

  waited(ms: number): void {
    this.#routerQueueMs += ms;
  }

  ready(report: KvReadyReport): void {
    this.#ready = report;
    this.#called(report.expertCalls);
  }

  sent(report: TransferReport): void {
    this.#transfer = report;
    this.#prefillQueueMs += report.queueMs;
    this.#called(report.expertCalls);
  }

  finished(report: { preemptions: number; expertCalls: readonly ShardCalls[] }): void {
    this.preemptions += report.preemptions;
    this.#called(report.expertCalls);
  }

  /** The KV of the current attempt is in place. */
  get committed(): boolean {
    return this.#ready !== undefined;
  }

  /** The decode worker's KV came over the wire, whole or in part. */
  get travelled(): boolean {
    return this.#ready?.outcome === 'used' || this.#ready?.outcome === 'partially_used';
  }

  get outcome(): KvOutcomeName {
    if (this.#ready === undefined) return 'not_needed';
    return this.#ready.outcome === 'local' && this.#remoteLost ? 'recomputed' : this.#ready.outcome;
  }

  /** The report as the APIs show it; times of the answer come from its caller. */
  toReport(times: { ttftMs: number; handoffGapMs: number }): CausewayReport {
    const { travelled } = this;
    // The receiver made the pages: its word counts
    const kept = travelled ? (this.#ready?.representation ?? this.#transfer?.representation) : undefined;
    const convertMs = (this.#transfer?.convertMs ?? 0) + (this.#ready?.convertMs ?? 0);
    const prefill = travelled || this.#ready === undefined ? this.#prefill : undefined;
    return {
      outcome: this.outcome,
      bytes_raw: travelled ? (this.#transfer?.rawBytes ?? this.#ready?.rawBytes ?? 0) : 0,
      bytes_sent: travelled ? (this.#transfer?.sentBytes ?? this.#ready?.receivedBytes ?? 0) : 0,
      codec: travelled ? (this.#transfer?.codec ?? '') : '',
      transfer_ms: travelled ? (this.#transfer?.transferMs ?? 0) : 0,
      prefill_ms: (travelled ? this.#transfer : this.#ready)?.prefillMs ?? 0,
      queue_ms: this.#routerQueueMs + this.#prefillQueueMs,
      ttft_ms: times.ttftMs,
      handoff_gap_ms: times.handoffGapMs,
      prefill_worker: prefill?.id ?? '',
      prefill_chip: prefill === undefined ? '' : chipName(prefill),
      decode_worker: this.#decode?.id ?? '',
      decode_chip: this.#decode === undefined ? '' : chipName(this.#decode),
      attempts: this.attempts,
      preemptions: this.preemptions,
      prefill_storage: kept?.sender ?? '',
      decode_storage: kept?.receiver ?? '',
      wire_dtype: kept?.wire ?? '',
      rounded: kept !== undefined && !kept.lossless,
      convert_ms: travelled ? convertMs : 0,
      ...(this.#expertCalls.size === 0 ? {} : { expert_calls: Object.fromEntries(this.#expertCalls) }),
    };
  }

  #called(calls: readonly ShardCalls[]): void {
    for (const { shard, calls: count } of calls) this.#expertCalls.set(shard, (this.#expertCalls.get(shard) ?? 0) + count);
  }
}

function chipName(worker: WorkerName): string {
  return worker.emulated ? `${worker.chip} (emulated)` : worker.chip;
}
