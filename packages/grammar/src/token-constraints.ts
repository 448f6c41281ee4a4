import { Worker } from 'node:worker_threads';
import { ServiceError } from '@causeway/errors';
import type { Constraint } from './constraint.ts';
import type { MatcherReply, MatcherRequest } from './matcher-messages.ts';
import type { TokenMask } from './token-mask.ts';
import type { TokenBytes } from './vocabulary.ts';

/** A thread that owes an answer and gives none for so long is replaced. */
const STALL_MS = 10_000;
/** The same for a thread that has yet to say that it works: a large vocabulary takes seconds on a busy machine. */
const START_MS = 60_000;
/** How often a text may lose its thread while the thread works for it: after that it is held to be the cause. */
const MAX_LOSSES = 2;
/** V8's heap in the thread, in MB. */
const HEAP_MB = 512;

/** A text that is being written under a constraint. */
export interface ConstrainedText extends Disposable {
  /**
   * Tokens that may come next. The same promise until `accept`.
   * @throws ServiceError `invalid_argument` when the constraint can't be compiled, `internal` when it broke the thread
   */
  mask(): Promise<TokenMask>;
  /** The next token. Its successor's mask is computed at once. */
  accept(token: number): void;
}

export interface TokenConstraintsOptions {
  tokens: TokenBytes;
  /** A thread was lost and another takes its place. */
  onReplaced?: (cause: unknown) => void;
  stallMs?: number;
  /** Script of the thread; for tests. */
  script?: URL;
}

/**
 * Holds texts to constraints, off the event loop: one thread computes which tokens may come next. The thread keeps nothing that can't
 * be made again from constraint and tokens, so that it may break, hang or run out of memory: another one takes over, and only the text
 * for which it worked when it broke twice fails.
 */
export class TokenConstraints implements AsyncDisposable {
  readonly #options: TokenConstraintsOptions;
  readonly #texts = new Map<number, Text>();
  /** Texts whose answer is due, in the order in which the thread works; its first is the one being worked on. */
  readonly #due = new Map<number, Text>();
  #worker: Worker | undefined;
  /** The thread has said that it works. */
  #ready = false;
  #watch: NodeJS.Timeout | undefined;
  #lastId = 0;
  #disposed = false;

  constructor(options: TokenConstraintsOptions) {
    this.#options = options;
  }

  /** Starts the thread now instead of with the first text. */
  start(): void {
    if (this.#worker === undefined && !this.#disposed) this.#worker = this.#startThread();
  }

  /** A text that has `tokens` so far and may end with any of `endTokens` where it is complete. */
  open(constraint: Constraint, endTokens: readonly number[], tokens: readonly number[]): ConstrainedText {
    if (this.#disposed)
      throw new ServiceError('this worker is shutting down', { code: 'unavailable', reason: 'draining', retry: 'other' });
    const text = new Text(++this.#lastId, constraint, endTokens, tokens);
    this.#texts.set(text.id, text);
    this.#open(text);
    return {
      mask: () => text.answer.promise,
      accept: (token) => {
        text.tokens.push(token);
        if (text.failed) return;
        text.expect();
        this.#ask(text, { kind: 'accept', id: text.id, token });
      },
      [Symbol.dispose]: () => this.#close(text),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed = true;
    clearTimeout(this.#watch);
    const worker = this.#worker;
    this.#worker = undefined;
    for (const text of this.#texts.values()) text.fail(shutDown());
    this.#texts.clear();
    await worker?.terminate();
  }

  #open(text: Text): void {
    const { id, constraint, endTokens, tokens } = text;
    this.#ask(text, { kind: 'open', id, constraint, endTokens, tokens });
  }

  #close(text: Text): void {
    if (!this.#texts.delete(text.id)) return;
    text.fail(new ServiceError('the text is closed', { code: 'cancelled', reason: 'cancelled' }));
    this.#worker?.postMessage({ kind: 'close', id: text.id } satisfies MatcherRequest);
  }

  #ask(text: Text, request: MatcherRequest): void {
    this.start();
    this.#due.set(text.id, text);
    if (this.#due.size === 1) this.#watchThread();
    this.#worker?.ref();
    this.#worker?.postMessage(request);
  }

  #startThread(): Worker {
    const worker = new Worker(this.#options.script ?? new URL('./matcher-worker.ts', import.meta.url), {
      name: 'constraints',
      execArgv: [],
      workerData: this.#options.tokens,
      resourceLimits: { maxOldGenerationSizeMb: HEAP_MB },
    });
    this.#ready = false;
    worker.on('message', (reply: MatcherReply) => {
      if (this.#worker !== worker) return;
      if (reply.kind !== 'ready') return this.#settle(reply);
      this.#ready = true;
      if (this.#due.size > 0) this.#watchThread();
    });
    // An error overtakes the answers sent before it, which say for whom the thread worked; the end does not.
    let cause: unknown;
    worker.on('error', (error) => (cause = error));
    worker.on('exit', (code) => this.#lose(worker, cause ?? `it ended with code ${code}`));
    // A listener on the port would keep the process alive: this comes last.
    worker.unref();
    return worker;
  }

  #settle(reply: Exclude<MatcherReply, { kind: 'ready' }>): void {
    const text = this.#due.get(reply.id);
    // A text that went on while it was opened anew waits for the answer to its last token.
    if (text === undefined || (reply.kind === 'mask' && reply.tokens !== text.tokens.length)) return;
    this.#due.delete(reply.id);
    if (this.#due.size > 0) this.#watchThread();
    else {
      clearTimeout(this.#watch);
      this.#worker?.unref();
    }
    if (reply.kind === 'mask') text.answer.resolve(reply.mask);
    else text.fail(new ServiceError(reply.message, { code: reply.code, reason: reply.reason, field: 'constraint' }));
  }

  #watchThread(): void {
    clearTimeout(this.#watch);
    const stallMs = this.#ready ? (this.#options.stallMs ?? STALL_MS) : START_MS;
    const worker = this.#worker;
    this.#watch = setTimeout(() => worker && this.#lose(worker, `it gave no answer for ${stallMs} ms`), stallMs).unref();
  }

  /** Starts another thread and opens there every text that is still written, the one that was worked on last. */
  #lose(worker: Worker, cause: unknown): void {
    if (this.#worker !== worker) return;
    this.#worker = undefined;
    void worker.terminate();
    clearTimeout(this.#watch);
    if (this.#disposed) return;
    this.#options.onReplaced?.(cause);
    const [guilty] = this.#due.values();
    this.#due.clear();
    const texts = [...this.#texts.values()].filter((text) => !text.failed);
    for (const text of texts) if (text !== guilty) this.#open(text);
    if (guilty === undefined || guilty.failed || !this.#texts.has(guilty.id)) return;
    if (++guilty.losses < MAX_LOSSES) this.#open(guilty);
    else guilty.fail(broken());
  }
}

/** The program's side of a text. */
class Text {
  readonly id: number;
  readonly constraint: Constraint;
  readonly endTokens: readonly number[];
  readonly tokens: number[];
  answer = Promise.withResolvers<TokenMask>();
  failed = false;
  losses = 0;

  constructor(id: number, constraint: Constraint, endTokens: readonly number[], tokens: readonly number[]) {
    this.id = id;
    this.constraint = constraint;
    this.endTokens = endTokens;
    this.tokens = [...tokens];
    this.#quiet();
  }

  expect(): void {
    this.answer = Promise.withResolvers();
    this.#quiet();
  }

  fail(error: ServiceError): void {
    this.failed = true;
    this.answer.reject(error);
    // Who asks later hears of it too.
    this.expect();
    this.answer.reject(error);
  }

  /** Nobody may be waiting: whoever asks gets the rejection. */
  #quiet(): void {
    this.answer.promise.catch(() => undefined);
  }
}

function shutDown(): ServiceError {
  return new ServiceError('this worker is shutting down', { code: 'unavailable', reason: 'draining', retry: 'other' });
}

function broken(): ServiceError {
  return new ServiceError(
    'the format that was asked for (response_format) broke the thread that enforces it, twice: it takes too much memory or time. Ask for a simpler one',
    { code: 'invalid_argument', reason: 'bad_request', field: 'response_format' },
  );
}
