import type { EngineStats } from '@causeway/engine';

/** Weight of a new observation. */
const SMOOTHING = 0.3;

/** Tokens per second while the engine works, smoothed; 0 until something was measured. */
export class RateMeter {
  #prefillTokens = 0;
  #decodedTokens = 0;
  #at: number | undefined;
  #prefill = 0;
  #decode = 0;

  /** Takes the counters' growth since the last call; `now` in milliseconds. Idle times don't lower a rate. */
  update(
    stats: Pick<EngineStats, 'prefillTokens' | 'decodedTokens'>,
    now = performance.now(),
  ): {
    prefillTokensPerSecond: number;
    decodeTokensPerSecond: number;
  } {
    const seconds = this.#at === undefined ? 0 : (now - this.#at) / 1000;
    this.#at = now;
    this.#prefill = smooth(this.#prefill, stats.prefillTokens - this.#prefillTokens, seconds);
    this.#decode = smooth(this.#decode, stats.decodedTokens - this.#decodedTokens, seconds);
    this.#prefillTokens = stats.prefillTokens;
    this.#decodedTokens = stats.decodedTokens;
    return { prefillTokensPerSecond: this.#prefill, decodeTokensPerSecond: this.#decode };
  }
}

function smooth(before: number, tokens: number, seconds: number): number {
  if (seconds <= 0 || tokens <= 0) return before;
  const rate = Math.round(tokens / seconds);
  return before === 0 ? rate : Math.round(before * (1 - SMOOTHING) + rate * SMOOTHING);
}
