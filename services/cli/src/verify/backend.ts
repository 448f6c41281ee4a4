import type { GeneratedToken } from '@causeway/engine';

/** Something that computes what a golden asks for: the engine alone, or a cluster of two workers. */
export interface VerifyBackend extends AsyncDisposable {
  /** What computes, for the report. */
  readonly name: string;
  /** Greedy answer to a prompt; every token carries its logits. Ends at `maxTokens` or, unless `ignoreEos`, at end of sequence. */
  greedy(
    prompt: readonly number[],
    maxTokens: number,
    ignoreEos: boolean,
  ): Promise<Required<Pick<GeneratedToken, 'id' | 'logits'>>[]>;
  /**
   * Logits after each of the given prefixes of `ids` (lengths ascending, 1 .. ids.length): `onRow(length, row)`, the row valid during the call.
   * The engine computes every position; a cluster prefills part of a prefix and decodes over the transferred KV.
   */
  rows(ids: readonly number[], lengths: readonly number[], onRow: (length: number, row: Float32Array) => void): Promise<void>;
}
