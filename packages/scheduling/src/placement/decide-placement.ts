/** Where a prompt is prefilled: on a prefill worker, or where it will be decoded. */
export type PlacementMode = 'disaggregated' | 'local';

export interface PlacementOptions {
  /** The deployment's rule; `auto` goes by length. */
  readonly mode: 'auto' | PlacementMode;
  /** With `auto`, prompts shorter than this many tokens are local. */
  readonly localPrefillTokens: number;
}

/** Tokens below which moving the KV costs more than it saves; a default until a deployment measures its own. */
export const DEFAULT_LOCAL_PREFILL_TOKENS = 32;

export interface PlacementDecision {
  readonly mode: PlacementMode;
  /** Who decided. A wish or a configured mode is kept to; a decision by length may give way when its workers are missing. */
  readonly by: 'request' | 'config' | 'length';
}

/** The request's wish, else the configured mode, else the prompt's length. Lengths are uncached prompt tokens. */
export function decidePlacement(
  promptTokens: number,
  wish: PlacementMode | undefined,
  options: PlacementOptions,
): PlacementDecision {
  if (wish !== undefined) return { mode: wish, by: 'request' };
  if (options.mode !== 'auto') return { mode: options.mode, by: 'config' };
  return { mode: promptTokens < options.localPrefillTokens ? 'local' : 'disaggregated', by: 'length' };
}
