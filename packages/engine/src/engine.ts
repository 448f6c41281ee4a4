import { fail } from '@causeway/errors';
import type { ConstrainedText } from '@causeway/grammar';
import type { LayerRange, PagePool } from '@causeway/kv';
import { choicePages, forkPages } from './choice-pages.ts';
import { checkConstraint, openText } from './constrained.ts';
import type { EngineLoop } from './engine-loop.ts';
import type { EngineParts } from './engine-parts.ts';
import type { AnswerLengths } from './growth.ts';
import { SCORED_CHUNK_TOKENS } from './prompt-scorer.ts';
import { answerStart, sampleToken } from './sample-token.ts';
import { finishReason } from './sequence.ts';
import { TokenStream } from './token-stream.ts';
import type {
  ChoicesPrefillResult,
  Engine,
  EngineStats,
  GeneratedToken,
  Generation,
  LogitsOptions,
  EngineModelInfo,
  PrefillListeners,
  PrefillResult,
  SequencePages,
} from './types.ts';
import { checkGeneration, checkIds, checkRoom } from './validate.ts';

interface EngineState {
  info: EngineModelInfo;
  pool: PagePool;
  parts: EngineParts;
  loop: EngineLoop;
  lengths: AnswerLengths;
  /** Sessions, slots, buffers. */
  resources: AsyncDisposableStack;
}

/** The engine behind `createEngine`: checks what comes in and hands it to the loop. */
export class RunningEngine implements Engine {
  readonly info: EngineModelInfo;
  readonly #state: EngineState;
  readonly #running: Promise<void>;
  #disposing: Promise<void> | undefined;

  constructor(state: EngineState) {
    this.info = state.info;
    this.#state = state;
    this.#running = state.loop.run();
  }

  stats(): EngineStats {
    const { pool, parts, loop } = this.#state;
    const { prefills, batch, line } = loop;
    const reading = prefills.running ? 1 : 0;
    return {
      running: batch.running + reading,
      waiting: line.waiting + batch.joining + prefills.length - reading,
      queuedPromptTokens: prefills.queuedTokens,
      totalPages: pool.totalPages,
      freePages: pool.freePages,
      prefillTokens: prefills.tokens,
      decodedTokens: batch.tokens,
      decodeRuns: batch.runs,
      preemptions: loop.preemptions,
      slotBytes: parts.slots.byteLength,
      pageBytes: pool.buffer.byteLength,
      longestSectionMs: parts.time.longestMs,
      longestSection: parts.time.longest,
    };
  }

  async reserve(tokens: number, signal: AbortSignal): Promise<SequencePages> {
    if (!Number.isSafeInteger(tokens) || tokens < 1)
      fail('invalid_argument', 'internal', `can't reserve room for ${tokens} tokens`);
    return this.#state.loop.line.reserve(Math.ceil(tokens / this.#state.parts.blockTokens), signal);
  }

  room(generation: Generation, ...others: readonly Generation[]): number {
    if (others.length > 0) return this.#roomForAll([generation, ...others]);
    const known = generation.promptIds.length + generation.replayIds.length;
    const growth = Math.min(generation.maxTokens, this.#state.lengths.growth);
    return Math.max(known, Math.min(known + growth, this.#state.parts.maxContext));
  }

  async prefill(
    generation: Generation,
    pages: SequencePages,
    signal: AbortSignal,
    onTokens?: (end: number, layers: LayerRange) => void | Promise<void>,
  ): Promise<PrefillResult> {
    const { firsts, prefillMs, expertCalls } = await this.prefillChoices([generation], pages, signal, { onTokens });
    return { first: firsts[0], prefillMs, expertCalls };
  }

  async prefillChoices(
    generations: readonly Generation[],
    pages: SequencePages,
    signal: AbortSignal,
    { onTokens, onScores, onExperts }: PrefillListeners = {},
  ): Promise<ChoicesPrefillResult> {
    const { parts, loop } = this.#state;
    this.#checkAll(generations);
    const { promptIds, promptLogprobs: tops } = generations[0] as Generation;
    const firsts: (GeneratedToken | undefined)[] = generations.map(() => undefined);
    using texts = new DisposableStack();
    const held = generations.map((generation) => {
      const { replayIds } = generation;
      const known = Array.from(promptIds.subarray(answerStart(generation)));
      return replayIds.length > 0 ? undefined : openText(parts, generation, known);
    });
    for (const text of held) texts.use(text);
    const sample = (generation: Generation, choice: number) => async (logits: Float32Array) => {
      firsts[choice] = await this.#firstToken(generation, logits, held[choice]);
    };
    checkRoom(pages, promptIds.length, parts.blockTokens);
    const expertCalls = new Map<string, number>();
    const prefillMs = await loop.prefills.read({
      ids: promptIds,
      pages,
      signal,
      onTokens,
      expertCalls,
      onExperts,
      ...(tops === undefined || onScores === undefined ? {} : { chunkTokens: SCORED_CHUNK_TOKENS, scores: { tops, onScores } }),
      onLast: generations.flatMap((generation, choice) =>
        generation.replayIds.length === 0 ? [sample(generation, choice)] : [],
      ),
    });
    return { firsts, prefillMs, expertCalls };
  }

  async fork(pages: SequencePages, generations: readonly Generation[]): Promise<SequencePages[]> {
    const { parts, pool } = this.#state;
    this.#checkAll(generations);
    if (generations.length > 1) return forkPages(pages, generations, { ...parts, pool });
    pages.assertReadable();
    return [pages];
  }

  decode(
    generation: Generation,
    pages: SequencePages,
    first: GeneratedToken | undefined,
    signal: AbortSignal,
  ): AsyncIterable<GeneratedToken> {
    try {
      this.#check(generation);
      if (first !== undefined && generation.replayIds.length > 0) {
        fail('invalid_argument', 'internal', 'a generation that replays tokens has no first token from elsewhere');
      }
      const { parts, loop } = this.#state;
      const known = generation.promptIds.length + 1;
      checkRoom(pages, generation.promptIds.length, parts.blockTokens);
      pages.assertReadable();
      if (pages.state === 'committed') pages.own();
      // A first token that ends the answer, whether or not it came with its reason.
      const over = first?.finishReason ?? (first && finishReason(generation, parts, first.id, 1, known));
      if (over === undefined) return loop.decode(generation, pages, first, signal);
      pages[Symbol.dispose]();
      return ended();
    } catch (error) {
      pages[Symbol.dispose]();
      throw error;
    }
  }

  page(index: number): Uint8Array {
    return this.#state.pool.bytes(index);
  }

  async logits(
    ids: Uint32Array,
    onLogits: (start: number, logits: Float32Array) => void,
    options: LogitsOptions = {},
  ): Promise<void> {
    const { parts, loop } = this.#state;
    checkIds(ids, { ...parts, vocabSize: this.info.vocabSize });
    const { chunk: chunkTokens, signal = new AbortController().signal } = options;
    if (chunkTokens !== undefined && !(Number.isSafeInteger(chunkTokens) && chunkTokens >= 4)) {
      fail('invalid_argument', 'bad_request', `the chunk has ${chunkTokens} tokens; it must be an integer of at least 4`);
    }
    using pages = await loop.line.reserve(Math.ceil(ids.length / parts.blockTokens), signal);
    await loop.prefills.read({ ids, pages, signal, onLogits, ...(chunkTokens === undefined ? {} : { chunkTokens }) });
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#disposing ??= this.#dispose();
    return this.#disposing;
  }

  async #dispose(): Promise<void> {
    await this.#state.loop.close();
    await this.#running;
    await this.#state.resources.disposeAsync();
  }

  async #firstToken(generation: Generation, logits: Float32Array, text: ConstrainedText | undefined): Promise<GeneratedToken> {
    const { parts } = this.#state;
    const { promptIds, firstPosition: position } = generation;
    const known = { ids: promptIds, answer: answerStart(generation) };
    const mask = text && (await parts.time.elsewhere(text.mask()));
    const sampled = await sampleToken(parts, logits, generation, position, known, mask);
    const reason = finishReason(generation, parts, sampled.id, 1, promptIds.length + 1);
    return { ...sampled, position, ...(reason === undefined ? {} : { finishReason: reason }) };
  }

  #roomForAll(generations: readonly Generation[]): number {
    const { parts, pool, lengths } = this.#state;
    const { blockTokens, maxContext } = parts;
    const growth = ({ maxTokens, promptIds, replayIds }: Generation): number =>
      Math.max(1, Math.min(maxTokens, lengths.growth, maxContext - promptIds.length - replayIds.length));
    return choicePages(generations, blockTokens, pool.totalPages, growth) * blockTokens;
  }

  #checkAll(generations: readonly Generation[]): void {
    const [first] = generations;
    if (first === undefined) fail('invalid_argument', 'internal', 'there is no answer to generate');
    for (const generation of generations) {
      if (generation.promptIds !== first.promptIds) {
        fail('invalid_argument', 'internal', 'answers that share a prefill must have the same prompt');
      }
      this.#check(generation);
    }
  }

  #check(generation: Generation): void {
    checkConstraint(generation, this.#state.parts);
    checkGeneration(generation, { ...this.#state.parts, vocabSize: this.info.vocabSize });
  }
}

function ended(): TokenStream {
  const stream = new TokenStream(() => undefined);
  stream.end();
  return stream;
}
