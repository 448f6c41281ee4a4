import { fail, ServiceError } from '@causeway/errors';
import type { PageSet } from '@causeway/kv';
import { nextChunk } from './chunks.ts';
import type { EngineParts } from './engine-parts.ts';
import type { BlockPlace } from './slot-packer.ts';
import { addCalls } from './remote-experts.ts';
import type { StoredLayers } from './stored-layers.ts';
import type { PrefillListeners } from './types.ts';

/** A prompt to be read into pages. */
export interface PrefillJob {
  ids: Uint32Array;
  pages: PageSet;
  signal: AbortSignal;
  /** Set for preempted sequences: they go before new prompts, oldest first. */
  arrival?: number;
  /** Takes the calls of experts elsewhere, by shard. */
  expertCalls?: Map<string, number>;
  onExperts?: PrefillListeners['onExperts'];
  /** Tokens per chunk; default the engine's. */
  chunkTokens?: number;
  /** Pages hold the tokens [0, end) of these layers. What it returns is awaited. */
  onTokens?: PrefillListeners['onTokens'];
  /** Each is given the logits f32 [vocabSize] after the last token, one after another; they rest until its promise resolves. */
  onLast?: readonly ((logits: Float32Array) => Promise<void>)[];
  /** How likely the prompt's own tokens are, with `tops` of the likeliest ones; only with `chunkTokens` of SCORED_CHUNK_TOKENS at most. */
  scores?: { tops: number; onScores: NonNullable<PrefillListeners['onScores']> };
  /** Logits f32 [tokens, vocabSize] of each chunk. */
  onLogits?: (start: number, logits: Float32Array) => void;
}

interface Queued {
  job: PrefillJob;
  done: number;
  startedAt: number | undefined;
  resolve(prefillMs: number): void;
  reject(error: ServiceError): void;
}

/**
 * Prompts in line for the prefill slot. One prompt at a time is read, a chunk per call of `step`, so that decode steps run between
 * chunks. A chunk's blocks are packed into pages, a partial last block too: each group of layers once the segment with the last of
 * them has run.
 */
export class PrefillQueue {
  readonly #parts: EngineParts;
  readonly #queue: Queued[] = [];
  #closed: ServiceError | undefined;
  /** Prompt tokens read since start. */
  tokens = 0;

  constructor(parts: EngineParts) {
    this.#parts = parts;
  }

  get length(): number {
    return this.#queue.length;
  }

  /** The head has begun. */
  get running(): boolean {
    return this.#queue[0]?.startedAt !== undefined;
  }

  get queuedTokens(): number {
    return this.#queue.reduce((sum, { job, done }) => sum + job.ids.length - done, 0);
  }

  /** Reads a prompt; resolves with the milliseconds from its first chunk to its end. Pages become committed. */
  async read(job: PrefillJob): Promise<number> {
    if (this.#closed !== undefined) throw this.#closed;
    if (job.signal.aborted) throw ServiceError.from(job.signal.reason);
    if (job.pages.state === 'reserved') job.pages.startFilling();
    if (job.pages.state !== 'filling') fail('failed_precondition', 'internal', `pages to be filled are ${job.pages.state}`);
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    const entry: Queued = { job, done: 0, startedAt: undefined, resolve, reject };
    this.#queue.splice(this.#placeOf(job), 0, entry);
    const onAbort = (): void => {
      this.#remove(entry, ServiceError.from(job.signal.reason));
      this.#parts.wake();
    };
    job.signal.addEventListener('abort', onAbort, { once: true });
    this.#parts.wake();
    try {
      return await promise;
    } finally {
      job.signal.removeEventListener('abort', onAbort);
    }
  }

  /** Reads the next chunk of the prompt at the head. Failures end that prompt only. */
  async step(): Promise<void> {
    const entry = this.#queue[0];
    if (entry === undefined) return;
    try {
      await this.#chunk(entry);
    } catch (error) {
      if (!entry.job.signal.aborted) this.#parts.hooks.onError?.(error);
      this.#remove(entry, ServiceError.from(error));
    }
    if (this.#queue.length === 0) await this.#parts.slots.discard(this.#parts.slots.prefillRow);
  }

  /** Ends every prompt in line with `error`. */
  failAll(error: ServiceError): void {
    for (const entry of this.#queue.slice()) this.#remove(entry, error);
  }

  async #chunk(entry: Queued): Promise<void> {
    const { executor, packer, slots, chunkTokens, hooks, debug } = this.#parts;
    const { job, done } = entry;
    const start = performance.now();
    if (entry.startedAt === undefined) {
      entry.startedAt = start;
      if (debug.fillNaN === true) await packer.poison(slots.prefillRow);
    }
    const count = nextChunk(done, job.ids.length, Math.min(chunkTokens, job.chunkTokens ?? chunkTokens));
    const row = { ids: job.ids.subarray(done, done + count), position: done };
    const all = job.onLogits !== undefined || job.scores !== undefined;
    const wanted = all ? Array.from({ length: count }, (_, t) => t) : [count - 1];
    const store = (segment: number): Promise<void> => this.#store(entry, segment, done + count);
    const { calls, layers } = await executor.run(slots.prefillRow, [row], wanted, job.signal, store);
    if (job.expertCalls !== undefined) addCalls(job.expertCalls, calls[0]);
    if (layers.length > 0) job.onExperts?.(layers);
    if (this.#queue[0] !== entry) return;
    entry.done += count;
    this.tokens += count;
    hooks.onPrefillChunk?.({ tokens: count, ms: performance.now() - start });
    job.onLogits?.(done, executor.logits(0, count));
    if (job.scores !== undefined) await this.#score(entry, job.scores, done, count);
    if (entry.done < job.ids.length || this.#queue[0] !== entry) return;
    for (const sample of job.onLast ?? []) {
      await sample(executor.logits(wanted.length - 1));
      await this.#parts.time.breathe();
      if (this.#queue[0] !== entry) return;
    }
    job.pages.commit();
    this.#queue.shift();
    entry.resolve(performance.now() - entry.startedAt);
  }

  /** The logits of the chunk at `from` say how likely each next token was; after the prompt's last token comes none of its own. */
  async #score(
    { job }: Queued,
    { tops, onScores }: NonNullable<PrefillJob['scores']>,
    from: number,
    count: number,
  ): Promise<void> {
    const { executor, scorer } = this.#parts;
    const next = job.ids.subarray(from + 1, from + count + 1);
    if (next.length === 0) return;
    using logits = executor.logitsTensor(next.length);
    const tokens = await scorer.score(logits, next, tops);
    if (this.#queue[0]?.job === job) onScores(from + 1, tokens);
  }

  /** Stores the chunk up to token `end` of the layers that `segment` completes, and says so. */
  async #store(entry: Queued, segment: number, end: number): Promise<void> {
    const { job, done } = entry;
    for (const group of this.#parts.stored) {
      if (group.segment !== segment) continue;
      if (this.#queue[0] !== entry) return;
      const blocks = this.#blocks(job.pages, done, end);
      await this.#pack(group, job.pages, blocks);
      if (this.#queue[0] !== entry) return;
      if (group === this.#parts.stored.at(-1)) await this.#check(job.pages, blocks, end);
      await job.onTokens?.(end, group.layers);
    }
  }

  /** The blocks of the tokens [from, to). */
  #blocks(pages: PageSet, from: number, to: number): BlockPlace[] {
    const { slots, blockTokens } = this.#parts;
    const blocks: BlockPlace[] = [];
    for (let block = Math.floor(from / blockTokens); block * blockTokens < to; block++) {
      blocks.push({ row: slots.prefillRow, token: block * blockTokens, page: pages.pages[block] as number });
    }
    return blocks;
  }

  /**
   * Packs blocks of some layers. With f16 or bf16 pages they are unpacked again, so that later chunks score against what the pages
   * hold. Not rounded: scores among tokens of one and the same chunk, which see each other's K and V in f32.
   */
  async #pack({ packer }: StoredLayers, pages: PageSet, blocks: readonly BlockPlace[]): Promise<void> {
    using _hold = pages.hold();
    await packer.pack(blocks);
    if (!this.#parts.lossless) await packer.unpack(blocks);
  }

  /** Debug: the complete ones of the blocks, all layers. */
  async #check(pages: PageSet, blocks: readonly BlockPlace[], end: number): Promise<void> {
    const { blockTokens, debug } = this.#parts;
    if (debug.checkPages !== true) return;
    using _hold = pages.hold();
    await this.#parts.checkBlocks(blocks.filter((block) => block.token + blockTokens <= end));
  }

  /** Ends every prompt in line and refuses those to come. */
  close(error: ServiceError): void {
    this.#closed = error;
    this.failAll(error);
  }

  #remove(entry: Queued, error: ServiceError): void {
    const index = this.#queue.indexOf(entry);
    if (index < 0) return;
    this.#queue.splice(index, 1);
    entry.reject(error);
  }

  /** A prompt that has begun keeps the slot. */
  #placeOf(job: PrefillJob): number {
    const { arrival } = job;
    if (arrival === undefined) return this.#queue.length;
    const place = this.#queue.findIndex(
      (other) => other.startedAt === undefined && (other.job.arrival === undefined || other.job.arrival > arrival),
    );
    return place < 0 ? this.#queue.length : place;
  }
}
