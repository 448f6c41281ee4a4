/** What policies see: an immutable picture of the workers and of one request. */

export type WorkerRole = 'prefill' | 'decode';

export interface WorkerState {
  readonly id: string;
  /** New at each start of the worker. */
  readonly incarnation: string;
  readonly role: WorkerRole;
  readonly model: string;
  /** Longest prompt and answer together, tokens. */
  readonly contextLength: number;
  /** Equal for workers that may exchange KV. */
  readonly fingerprint: string;
  readonly draining: boolean;
  readonly capacity: { readonly totalPages: number; readonly blockTokens: number; readonly maxSequences: number };
  /** As the worker reported it last. */
  readonly load: {
    readonly running: number;
    readonly waiting: number;
    readonly queuedPromptTokens: number;
    readonly freePages: number;
  };
  /** 0: not measured yet. */
  readonly rates: { readonly prefillTokensPerSecond: number; readonly decodeTokensPerSecond: number };
  /** What this router has given it that hasn't ended (a decode worker: sequences); newer than `load`, but knows of no other router. */
  readonly given: { readonly requests: number; readonly promptTokens: number };
}

export interface Snapshot {
  readonly workers: readonly WorkerState[];
  /** Why a prefill worker's KV must not go to a decode worker of its fingerprint; undefined: it may. Pure. Left out: all may. */
  readonly exchange?: ((prefill: WorkerState, decode: WorkerState) => string | undefined) | undefined;
}

/** What a request needs. */
export interface Need {
  readonly model: string;
  /** Tokens to prefill. */
  readonly promptTokens: number;
  /** Tokens that the answer may still have. */
  readonly maxTokens: number;
  /** Answers that are decoded together; they share the prompt's whole blocks. */
  readonly sequences: number;
  /** Incarnations that failed this request already. */
  readonly avoid: ReadonlySet<string>;
}

/** A snapshot frozen all the way down. */
export function snapshotOf(workers: readonly WorkerState[], exchange?: Snapshot['exchange']): Snapshot {
  return Object.freeze({ workers: Object.freeze([...workers]), exchange });
}
