/** What is measured of an engine, whoever made it. Every arm is a process of its own (arm-process.ts). */

/** One prompt read and an answer begun. Milliseconds. */
export interface Measured {
  /** From the call to the logits (or first token) after the last prompt token. */
  prefillMs: number;
  /** CPU time of the whole process meanwhile. */
  prefillCpuMs: number;
  /** Median time between tokens, after the second. */
  stepMs: number;
  /** CPU time of the whole process per token. */
  stepCpuMs: number;
}

/** Several answers written together. */
export interface MeasuredBatch {
  /** Median time of a step that serves every sequence. */
  stepMs: number;
  stepCpuMs: number;
}

export interface Arm extends AsyncDisposable {
  /** What it is, with its version, for the report. */
  version: string;
  /** Reads `promptIds`, then generates `steps` tokens greedily, whatever they are. Nothing of earlier calls is reused. */
  run(promptIds: readonly number[], steps: number): Promise<Measured>;
  /** Generates `steps` tokens of every prompt, all decoded together. Not every arm can. */
  together?(prompts: readonly (readonly number[])[], steps: number): Promise<MeasuredBatch>;
}

/** What an arm is made from. */
export interface ArmSpec {
  kind: 'causeway' | 'llama.cpp';
  modelPath: string;
  threads: number;
  maxContext: number;
  commit: string;
  /** `chip` is `cpu` unless it says another family. */
  causeway?: { chip?: string; precision: 'fast' | 'exact'; spinUs: number; chunkTokens: number };
  flashAttention?: boolean;
}

/** CPU milliseconds of this process since `start`. */
export function cpuMs(start: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(start);
  return (user + system) / 1000;
}

/** Median of the intervals between moments, the first interval left out. */
export function medianInterval(moments: readonly number[]): number {
  const gaps = moments.slice(2).map((at, i) => at - (moments[i + 1] as number));
  return gaps.toSorted((a, b) => a - b)[gaps.length >> 1] ?? Number.NaN;
}

/** Prompt token ids without meaning, the same for every arm. */
export function promptOf(tokens: number, seed: number, vocabSize: number): number[] {
  return Array.from({ length: tokens }, (_, t) => 100 + ((t * 7919 + seed * 104_729) % (vocabSize - 100)));
}
