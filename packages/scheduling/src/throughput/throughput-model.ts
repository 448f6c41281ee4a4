/**
 * The throughput model of "Prefill-as-a-Service" (arXiv 2604.15039): a pool of prefill instances far away (prfaas) reads long
 * prompts, a pool nearby reads short ones (pd-p) and decodes everything (pd-d). Requests per second throughout; lengths are
 * uncached prompt tokens. Pure; the router, the planner and the simulator share it.
 */

/** What the model knows of a deployment. */
export interface ThroughputInputs {
  /** Instances of the far prefill pool. */
  readonly farInstances: number;
  /** Seconds a far instance takes for a prompt. */
  farPrefillSeconds(tokens: number): number;
  /** Bytes per second that leave the far pool. */
  readonly farEgressBytesPerSecond: number;
  /** Bytes of KV of a prompt, as sent. */
  kvBytes(tokens: number): number;
  /** Instances nearby that prefill. */
  readonly prefillInstances: number;
  /** Seconds a nearby instance takes for a prompt. */
  prefillSeconds(tokens: number): number;
  /** Instances nearby that decode. */
  readonly decodeInstances: number;
  /** Sequences that one of them decodes together. */
  readonly decodeBatch: number;
  /** Seconds of one decode step of a full batch. */
  readonly decodeStepSeconds: number;
  /** Mean tokens of an answer. */
  readonly answerTokens: number;
}

/** A sample of uncached prompt lengths; at least one. */
export type LengthSample = readonly number[];

export interface ThroughputSplit {
  /** Share of requests whose prompt is longer than the threshold. */
  readonly longShare: number;
  /** Mean lengths, 0 when there are none. */
  readonly longTokens: number;
  readonly shortTokens: number;
}

/** Θ_prfaas = min(N / T_prefill(l_long), B_out / S_kv(l_long)): prompts of this length per second. */
export function farThroughput(inputs: ThroughputInputs, tokens: number): number {
  return Math.min(
    ratio(inputs.farInstances, inputs.farPrefillSeconds(tokens)),
    ratio(inputs.farEgressBytesPerSecond, inputs.kvBytes(tokens)),
  );
}

/** Θ_pd-p = N_p / T_prefill(l_short). */
export function nearPrefillThroughput(inputs: ThroughputInputs, tokens: number): number {
  return ratio(inputs.prefillInstances, inputs.prefillSeconds(tokens));
}

/** Θ_pd-d = N_d · BS_max / (T_decode · L_out). */
export function decodeThroughput(inputs: ThroughputInputs): number {
  return ratio(inputs.decodeInstances * inputs.decodeBatch, inputs.decodeStepSeconds * inputs.answerTokens);
}

/** Shares and mean lengths on both sides of a threshold: prompts longer than it go far. */
export function splitAt(lengths: LengthSample, threshold: number): ThroughputSplit {
  const long = lengths.filter((length) => length > threshold);
  const short = lengths.filter((length) => length <= threshold);
  return { longShare: ratio(long.length, lengths.length), longTokens: mean(long), shortTokens: mean(short) };
}

/** Λ = min(Θ_prfaas / p, Θ_pd-p / (1 − p), Θ_pd-d): requests per second that the whole deployment can serve. */
export function totalThroughput(inputs: ThroughputInputs, split: ThroughputSplit): number {
  return Math.min(prefillThroughput(inputs, split), decodeThroughput(inputs));
}

/** Λ without the decode term. A side that gets no requests limits nothing. */
function prefillThroughput(inputs: ThroughputInputs, split: ThroughputSplit): number {
  const { longShare, longTokens, shortTokens } = split;
  const far = longShare === 0 ? Number.POSITIVE_INFINITY : farThroughput(inputs, longTokens) / longShare;
  const near = longShare === 1 ? Number.POSITIVE_INFINITY : nearPrefillThroughput(inputs, shortTokens) / (1 - longShare);
  return Math.min(far, near);
}

/**
 * The threshold t at which Θ_prfaas / p and Θ_pd-p / (1 − p) come closest to being equal, that is, at which the smaller of them is
 * largest. Tried: each length of the sample, and 0 (everything goes far). The smallest such threshold, tokens.
 */
export function balancedThreshold(inputs: ThroughputInputs, lengths: LengthSample): number {
  const candidates = [...new Set([0, ...lengths])].toSorted((a, b) => a - b);
  return best(candidates, (threshold) => prefillThroughput(inputs, splitAt(lengths, threshold)));
}

/**
 * The split N_p : N_d of the nearby instances at which Θ_prfaas + Θ_pd-p and Θ_pd-d come closest to being equal, that is, at which
 * the smaller of them is largest; each side gets at least one instance. `instances`: at least 2.
 */
export function balancedSplit(
  inputs: ThroughputInputs,
  split: ThroughputSplit,
  instances: number,
): { prefill: number; decode: number } {
  const candidates = Array.from({ length: Math.max(0, instances - 1) }, (_, i) => i + 1);
  const prefill = best(candidates, (prefillInstances) => {
    const tried = { ...inputs, prefillInstances, decodeInstances: instances - prefillInstances };
    return Math.min(
      farThroughput(tried, split.longTokens) + nearPrefillThroughput(tried, split.shortTokens),
      decodeThroughput(tried),
    );
  });
  return { prefill, decode: instances - prefill };
}

/** The first candidate of the highest value; 0 without candidates. */
function best(candidates: readonly number[], value: (candidate: number) => number): number {
  let chosen = candidates[0] ?? 0;
  let highest = Number.NEGATIVE_INFINITY;
  for (const candidate of candidates) {
    const reached = value(candidate);
    if (reached > highest) [chosen, highest] = [candidate, reached];
  }
  return chosen;
}

/** a / b; nothing to do takes no time. */
function ratio(a: number, b: number): number {
  return b === 0 ? (a === 0 ? 0 : Number.POSITIVE_INFINITY) : a / b;
}

function mean(values: readonly number[]): number {
  return ratio(
    values.reduce((sum, value) => sum + value, 0),
    values.length,
  );
}
