/**
 * Tokenizes off the event loop. Short inputs are done at once on the calling thread: sending them elsewhere costs more.
 *
 * Invariants
 *  P1  No input above `INLINE_BYTES` is tokenized on the calling thread.
 *  P2  The queue is bounded; a job that was given up never starts, and one that runs is stopped soon after.
 */
import { ServiceError } from '@causeway/errors';
import { type ChatMessage, type RenderOptions, wasStopped } from './chat-template.ts';
import { loadTokenizer, type Tokenizer } from './tokenizer.ts';
import type { TokenizerJob } from './tokenizer-messages.ts';
import type { TokenizerSource } from './tokenizer-source.ts';
import { TokenizerThread } from './tokenizer-thread.ts';

/** UTF-8 bytes tokenized inline: at most 3 µs each (CJK without spaces is the slowest), so 3 ms. */
export const INLINE_BYTES = 1000;
/** Longest time that a template may take on the calling thread over a short conversation. */
const INLINE_RENDER_MS = 3;
/** One that was as fast, and then takes so long, is not run there again. */
const INLINE_LIMIT_MS = 100;
/** What the template adds to a message, roughly. */
const MESSAGE_BYTES = 50;
/** How long a running job may go on after it was given up, before its thread is replaced. */
const ABANDONED_MS = 1000;
/** Compiles the tokenizer's hot code before the first request. */
const WARM_UP = { text: 'The year 2026, naïve café: 日本語のテキスト, 😀 "quoted" code(); '.repeat(8), times: 20 } as const;

export interface TokenizerPoolOptions {
  source: TokenizerSource;
  /** Default 1. */
  threads?: number;
  /** Jobs that may wait for a thread; default 1024. */
  maxQueued?: number;
  /** Script of the threads; default: one that only tokenizes. It calls `serveTokenizer`. */
  script?: URL;
}

interface Queued {
  start(thread: TokenizerThread): void;
  reject(error: unknown): void;
}

/** Threads with a tokenizer each, and one tokenizer on the calling thread for short inputs and for decoding. */
export class TokenizerPool implements AsyncDisposable {
  /** For decoding, rendering and facts; its `encode` blocks the calling thread. */
  readonly tokenizer: Tokenizer;
  readonly #source: TokenizerSource;
  readonly #threadCount: number;
  readonly #maxQueued: number;
  readonly #script: URL;
  readonly #threads = new Set<TokenizerThread>();
  readonly #queue: Queued[] = [];
  #replaced = 0;
  #fast: boolean | undefined;
  #disposal: Promise<void> | undefined;

  private constructor(options: TokenizerPoolOptions) {
    this.#source = options.source;
    this.#threadCount = Math.max(1, options.threads ?? 1);
    this.#maxQueued = options.maxQueued ?? 1024;
    this.#script = options.script ?? new URL('./tokenizer-worker.ts', import.meta.url);
    this.tokenizer = loadTokenizer(options.source);
  }

  /** Loads the tokenizer here and in every thread. @throws ServiceError `unsupported_format` when it can't be used. */
  static async start(options: TokenizerPoolOptions): Promise<TokenizerPool> {
    const pool = new TokenizerPool(options);
    for (let i = 0; i < WARM_UP.times; i++) pool.tokenizer.encode(WARM_UP.text);
    pool.#rendersFast();
    const threads = Array.from({ length: pool.#threadCount }, () => pool.#addThread());
    try {
      await Promise.all(threads.map((thread) => thread.ready));
    } catch (error) {
      await pool[Symbol.asyncDispose]();
      throw error;
    }
    return pool;
  }

  /** Jobs that wait for a thread. */
  get queued(): number {
    return this.#queue.length;
  }

  /** Threads that ended and gave way to another, since the start: crashed, or stopped with a job that nobody wanted. */
  get replaced(): number {
    return this.#replaced;
  }

  /** `Tokenizer.encode`. Rejects with the signal's reason, and ServiceError `queue_full` when too many inputs wait. */
  async encode(text: string, signal?: AbortSignal): Promise<ArrayLike<number>> {
    this.#check(signal);
    if (Buffer.byteLength(text) <= INLINE_BYTES) return this.tokenizer.encode(text);
    return this.#enqueue<Uint32Array>({ kind: 'text', text }, [], signal);
  }

  /**
   * `Tokenizer.encodeChat`. Rejects as `encode` does, and with `bad_request` when the template refuses the messages. Short messages
   * are rendered here, but for those with tools, calls or variables, and templates that are slow: how long these take is not known.
   */
  async encodeChat(
    messages: readonly ChatMessage[],
    options: RenderOptions = {},
    signal?: AbortSignal,
  ): Promise<ArrayLike<number>> {
    this.#check(signal);
    const bytes = messages.reduce((sum, { role, content }) => sum + Buffer.byteLength(role + content) + MESSAGE_BYTES, 0);
    const plain = options.tools === undefined && options.variables === undefined && messages.every(isPlain);
    if (plain && bytes <= INLINE_BYTES && this.#rendersFast()) {
      try {
        return this.tokenizer.encodeChat(messages, { ...options, limitMs: INLINE_LIMIT_MS });
      } catch (error) {
        if (!wasStopped(error)) throw error;
        this.#fast = false;
      }
    }
    return this.#enqueue<Uint32Array>({ kind: 'chat', messages, options }, [], signal);
  }

  /** A template is a program: it is tried once before it runs beside the event loop's other work. */
  #rendersFast(): boolean {
    return (this.#fast ??= fastTemplate(this.tokenizer));
  }

  /**
   * A job of the program's own kind, always in a thread: what the function given to `serveTokenizer` in `script` makes of the input.
   * Buffers in `transfer` are handed over. Rejects as `encode` does, and with the job's own ServiceError.
   */
  async run<T>(input: unknown, transfer: readonly ArrayBuffer[] = [], signal?: AbortSignal): Promise<T> {
    this.#check(signal);
    return this.#enqueue<T>({ kind: 'own', input }, transfer, signal);
  }

  /** Fails what waits or runs, and ends the threads. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#disposal ??= this.#stop();
    return this.#disposal;
  }

  #check(signal: AbortSignal | undefined): void {
    if (this.#disposal !== undefined) throw disposed();
    signal?.throwIfAborted();
  }

  #enqueue<T>(job: TokenizerJob, transfer: readonly ArrayBuffer[], signal: AbortSignal | undefined): Promise<T> {
    if (this.#queue.length >= this.#maxQueued) {
      throw new ServiceError(`${this.#queue.length} prompts wait to be tokenized already`, {
        code: 'resource_exhausted',
        reason: 'queue_full',
        retry: 'same',
        retryAfterSeconds: 1,
      });
    }
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    let running: TokenizerThread | undefined;
    const giveUp = (): void => {
      const index = this.#queue.indexOf(queued);
      if (index >= 0) this.#queue.splice(index, 1);
      else if (running !== undefined) this.#abandon(running, settled);
      reject(signal?.reason);
    };
    const settled = Promise.withResolvers<void>();
    const queued: Queued = {
      reject,
      start: (thread) => {
        running = thread;
        thread
          .run(job, transfer)
          .then((value) => resolve(value as T), reject)
          .finally(() => {
            settled.resolve();
            this.#next();
          });
      },
    };
    signal?.addEventListener('abort', giveUp, { once: true });
    this.#queue.push(queued);
    this.#next();
    return promise.finally(() => signal?.removeEventListener('abort', giveUp));
  }

  /** Gives waiting jobs to idle threads, replacing threads that ended. */
  #next(): void {
    for (const thread of this.#threads) {
      if (!thread.ended) continue;
      this.#threads.delete(thread);
      this.#replaced++;
    }
    while (this.#queue.length > 0) {
      const thread = [...this.#threads].find((candidate) => !candidate.busy) ?? this.#spare();
      if (thread === undefined) return;
      this.#queue.shift()?.start(thread);
    }
  }

  #spare(): TokenizerThread | undefined {
    return this.#threads.size < this.#threadCount && this.#disposal === undefined ? this.#addThread() : undefined;
  }

  #addThread(): TokenizerThread {
    const thread = new TokenizerThread(this.#source, this.#script);
    this.#threads.add(thread);
    return thread;
  }

  /** Nobody wants this thread's job any more: end it unless it is done soon (P2). */
  #abandon(thread: TokenizerThread, settled: PromiseWithResolvers<void>): void {
    const timer = setTimeout(() => void thread[Symbol.asyncDispose](), ABANDONED_MS);
    timer.unref();
    void settled.promise.then(() => clearTimeout(timer));
  }

  async #stop(): Promise<void> {
    for (const queued of this.#queue.splice(0)) queued.reject(disposed());
    await Promise.all([...this.#threads].map((thread) => thread[Symbol.asyncDispose]()));
  }
}

function disposed(): ServiceError {
  return new ServiceError('the tokenizer is shut down', { code: 'unavailable', reason: 'draining', retry: 'other' });
}

function isPlain({ tool_calls: calls, reasoning_content: reasoning }: ChatMessage): boolean {
  return calls === undefined && reasoning === undefined;
}

/** Whether the template renders a short conversation within `INLINE_RENDER_MS`; the first time compiles it. */
function fastTemplate(tokenizer: Tokenizer): boolean {
  const turns = ['user', 'assistant', 'user'].map((role) => ({ role, content: 'The year 2026, naïve café.' }));
  for (let attempt = 0; attempt < 3; attempt++) {
    const start = performance.now();
    try {
      tokenizer.renderChat(turns, { limitMs: INLINE_LIMIT_MS });
    } catch {
      // Refused, or stopped.
    }
    if (performance.now() - start <= INLINE_RENDER_MS) return true;
  }
  return false;
}
