/** What became of the KV cache. */
export const KV_OUTCOMES = ['used', 'partially_used', 'recomputed', 'local', 'not_needed'] as const;
export type KvOutcomeName = (typeof KV_OUTCOMES)[number];

/** `usage.causeway`: what became of the KV cache of this request. Field names are those of causeway.inference.v1.KvReport. */
export interface CausewayReport {
  outcome: KvOutcomeName;
  bytes_raw: number;
  bytes_sent: number;
  /** Empty when nothing travelled. */
  codec: string;
  transfer_ms: number;
  prefill_ms: number;
  /** In the router's queue and the prefill worker's. */
  queue_ms: number;
  ttft_ms: number;
  /** First to second token; 0 when there was no second. */
  handoff_gap_ms: number;
  prefill_worker: string;
  prefill_chip: string;
  decode_worker: string;
  decode_chip: string;
  attempts: number;
  preemptions: number;
  /** How both workers store KV that travelled: element type, layout, tokens of a block, as `bf16 NZ 128`; empty when none did. */
  prefill_storage: string;
  decode_storage: string;
  /** Element type on the wire; empty when nothing travelled. */
  wire_dtype: string;
  /** The decode worker's pages hold other numbers than the prefill worker's: rounded ones. */
  rounded: boolean;
  /** Between storage and wire order at both ends, thread time. */
  convert_ms: number;
  /** Calls of experts in shards (one token, one expert, one layer), by shard; absent where workers have their own. */
  expert_calls?: Readonly<Record<string, number>>;
}

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  /** Of models that reason. */
  completion_tokens_details?: { reasoning_tokens: number };
  causeway: CausewayReport;
}

/** OpenAI's usage object with the KV report inside. `reasoningTokens` are among the completion's; undefined: the model writes none. */
export function usageObject(
  promptTokens: number,
  completionTokens: number,
  causeway: CausewayReport,
  reasoningTokens?: number,
): Usage {
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    ...(reasoningTokens === undefined ? {} : { completion_tokens_details: { reasoning_tokens: reasoningTokens } }),
    causeway,
  };
}

/** Value of the header `x-causeway-kv`: `outcome=used; raw=...; sent=...; codec=...; ms=...; prefill=...; decode=...`. */
export function kvHeader(report: CausewayReport): string {
  const fields: [string, string | number][] = [
    ['outcome', report.outcome],
    ['raw', report.bytes_raw],
    ['sent', report.bytes_sent],
    ['codec', report.codec],
    ['ms', Math.round(report.transfer_ms * 1000) / 1000],
    ['prefill', report.prefill_worker],
    ['decode', report.decode_worker],
    ['attempts', report.attempts],
  ];
  return fields
    .filter(([, value]) => value !== '')
    .map(([name, value]) => `${name}=${String(value).replaceAll(/[^\x21-\x3a\x3c-\x7e]/g, '_')}`)
    .join('; ');
}
