import { fail } from '@causeway/errors';
import { GraphBuilder, int, type Value } from '@causeway/onnx-graph';
import { type Binding, NativeBuffer, type Runtime, type Session, Tensor } from '@causeway/ort';
import type { LoopTime } from './loop-time.ts';
import type { ScoredToken, TopLogprob } from './types.ts';
import { MAX_TOP_LOGPROBS } from './validate.ts';

/** Tokens of a chunk whose tokens are scored: all rows of its logits are kept at once, and a vocabulary is large. */
export const SCORED_CHUNK_TOKENS = 64;

const BYTES = { f32: 4, i64: 8 } as const;

/**
 * How likely the model found the tokens of a prompt itself, from the logits that reading it leaves. A row per token over the whole
 * vocabulary is too much for an event loop: the sums and the search run in ONNX Runtime's threads. Not reentrant: the engine's loop
 * is its only caller.
 */
export class PromptScorer implements AsyncDisposable {
  readonly #time: LoopTime;
  readonly #session: Session;
  readonly #binding: Binding;
  /** Of the likeliest tokens, computed for each row. */
  readonly #tops: number;
  readonly #buffers: Record<'next' | 'own' | 'top' | 'top_ids', NativeBuffer>;
  readonly #resources = new AsyncDisposableStack();

  /** For rows of `vocabSize` logits. */
  static async create(o: { runtime: Runtime; vocabSize: number; time: LoopTime }): Promise<PromptScorer> {
    const tops = Math.min(MAX_TOP_LOGPROBS, o.vocabSize);
    return new PromptScorer(await o.runtime.createSession(scoreGraph(o.vocabSize, tops)), tops, o);
  }

  private constructor(session: Session, tops: number, o: { time: LoopTime }) {
    const allocate = (bytes: number) => this.#resources.use(NativeBuffer.allocate(SCORED_CHUNK_TOKENS * bytes));
    this.#time = o.time;
    this.#session = this.#resources.use(session);
    this.#binding = this.#resources.use(session.createBinding());
    this.#tops = tops;
    this.#buffers = {
      next: allocate(BYTES.i64),
      own: allocate(BYTES.f32),
      top: allocate(BYTES.f32 * tops),
      top_ids: allocate(BYTES.i64 * tops),
    };
  }

  /**
   * The tokens `next`, at most SCORED_CHUNK_TOKENS, each with its log-probability by the row of `logits` f32 [next.length, vocabSize] before it, and the `tops`
   * likeliest ones there, the likeliest first.
   * @throws ServiceError `runtime` when the model gave NaN
   */
  async score(logits: Tensor, next: Uint32Array, tops: number): Promise<ScoredToken[]> {
    const rows = next.length;
    using tensors = new DisposableStack();
    this.#time.section('bind scores', () => {
      view(this.#buffers.next, BigInt64Array).set(BigInt64Array.from(next, BigInt));
      const tensor = (name: 'next' | 'own' | 'top' | 'top_ids', type: 'f32' | 'i64', width: number): Tensor =>
        tensors.use(Tensor.of(this.#buffers[name], 0, type, [rows, width]));
      this.#binding.input('logits', logits).input('next', tensor('next', 'i64', 1));
      this.#binding.output('own', tensor('own', 'f32', 1));
      this.#binding.output('top', tensor('top', 'f32', this.#tops)).output('top_ids', tensor('top_ids', 'i64', this.#tops));
    });
    await this.#time.elsewhere(this.#session.run(this.#binding));
    return this.#time.section('read scores', () => Array.from(next, (id, row) => this.#scored(id, row, tops)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }

  #scored(id: number, row: number, tops: number): ScoredToken {
    const logprob = view(this.#buffers.own, Float32Array)[row] as number;
    if (Number.isNaN(logprob))
      fail('internal', 'runtime', `the model gave logits that are no numbers before token ${id} of the prompt`);
    const values = view(this.#buffers.top, Float32Array);
    const ids = view(this.#buffers.top_ids, BigInt64Array);
    const topLogprobs: TopLogprob[] = [];
    for (let i = row * this.#tops; i < row * this.#tops + Math.min(tops, this.#tops); i++) {
      topLogprobs.push({ id: Number(ids[i]), logprob: values[i] as number });
    }
    return { id, logprob, topLogprobs };
  }
}

/** log p(token) = logit - log sum exp(logits), of one token a row and of the likeliest. */
function scoreGraph(vocabSize: number, tops: number): Uint8Array {
  const graph = new GraphBuilder('prompt_scores');
  const logits = graph.input('logits', 'f32', ['rows', vocabSize]);
  const next = graph.input('next', 'i64', ['rows', 1]);
  const total = graph.op('ReduceLogSumExp', [logits, graph.int64s(1)], { keepdims: int(1) });
  const [values, ids] = graph.node('TopK', [logits, graph.int64s(tops)], { outputs: 2, attributes: { axis: int(1) } });
  graph.node('Sub', [graph.op('GatherElements', [logits, next], { axis: int(1) }), total], { outputs: ['own'] });
  graph.node('Sub', [values as Value, total], { outputs: ['top'] });
  graph.rename(ids as Value, 'top_ids');
  graph.output('own', 'f32', ['rows', 1]);
  graph.output('top', 'f32', ['rows', tops]);
  graph.output('top_ids', 'i64', ['rows', tops]);
  return graph.serialize();
}

function view<T>(
  buffer: NativeBuffer,
  type: { new (buffer: ArrayBufferLike, offset: number, length: number): T; BYTES_PER_ELEMENT: number },
): T {
  const bytes = buffer.bytes();
  return new type(bytes.buffer, bytes.byteOffset, bytes.byteLength / type.BYTES_PER_ELEMENT);
}
