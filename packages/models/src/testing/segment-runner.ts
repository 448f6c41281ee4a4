/** Runs a model's segments over plain buffers, for tests of this package. The engine has the real executor. */
import { NativeBuffer, type Runtime, type Session, type SessionOptions, Tensor } from '@causeway/ort';
import { cacheShape } from '../cache-shape.ts';
import type { LoadedModel, SymbolicDim, ValueSpec } from '../types.ts';

/** One step: the new tokens of each sequence (equally many) and how many it has already. */
export interface Step {
  ids: readonly (readonly number[])[];
  past: readonly number[];
  /** Rows (b * T + t) whose logits are wanted; default all. */
  logitRows?: readonly number[];
  /** Slot of the first sequence; the others follow. Default 0. */
  firstSlot?: number;
}

const BYTES: Partial<Record<string, number>> = { f32: 4, i32: 4, i64: 8 };

export class SegmentRunner implements AsyncDisposable {
  readonly #model: LoadedModel;
  readonly #sessions: Session[];
  readonly #caches: Tensor[];
  readonly #stack: DisposableStack;

  private constructor(model: LoadedModel, sessions: Session[], caches: Tensor[], stack: DisposableStack) {
    this.#model = model;
    this.#sessions = sessions;
    this.#caches = caches;
    this.#stack = stack;
  }

  /** Slots of `capacity` tokens for `batch` sequences, filled with NaN; the model's weights are released once packed. */
  static async create(
    runtime: Runtime,
    model: LoadedModel,
    o: { batch: number; capacity: number; session?: SessionOptions },
  ): Promise<SegmentRunner> {
    const sessions: Session[] = [];
    for (const segment of model.segments) {
      sessions.push(await runtime.createSession(segment.graph, { ...o.session, initializers: await segment.weights() }));
    }
    model.releaseWeights();
    const stack = new DisposableStack();
    const caches = model.layers.flatMap((layer) => {
      const { heads, width } = cacheShape(layer);
      const make = (): Tensor => {
        const shape = [o.batch, heads, o.capacity, width];
        const buffer = stack.use(NativeBuffer.allocate(shape.reduce((product, dim) => product * dim, 4)));
        const bytes = buffer.bytes();
        new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4).fill(Number.NaN);
        return stack.use(Tensor.of(buffer, 0, 'f32', shape));
      };
      const key = make();
      return [key, layer.kind === 'latent' ? key : make()];
    });
    return new SegmentRunner(model, sessions, caches, stack);
  }

  /** Computes a step and gives the logits f32 [rows, vocabSize]. */
  async run(step: Step): Promise<Float32Array> {
    using stack = new DisposableStack();
    const batch = step.ids.length;
    const tokens = step.ids[0]?.length ?? 0;
    const rows = step.logitRows ?? Array.from({ length: batch * tokens }, (_, i) => i);
    const size: Record<Exclude<SymbolicDim, number>, number> = { B: batch, T: tokens, N: batch * tokens, R: rows.length };
    const values = new Map<string, Tensor>();
    const allocate = (spec: ValueSpec): Tensor => {
      const shape = spec.shape.map((dim) => (typeof dim === 'number' ? dim : size[dim]));
      const bytes = shape.reduce((product, dim) => product * dim, BYTES[spec.type] ?? 0);
      const buffer = stack.use(NativeBuffer.allocate(Math.max(bytes, 1)));
      const tensor = stack.use(Tensor.of(buffer, 0, spec.type, shape));
      values.set(spec.name, tensor);
      return tensor;
    };
    const fill = (spec: ValueSpec, numbers: readonly number[]): void => {
      const bytes = allocate(spec).buffer.bytes();
      if (spec.type === 'i64') new BigInt64Array(bytes.buffer, bytes.byteOffset, numbers.length).set(numbers.map(BigInt));
      else new Int32Array(bytes.buffer, bytes.byteOffset, numbers.length).set(numbers);
    };
    const past = step.past;
    fill({ name: 'token_ids', type: 'i64', shape: ['B', 'T'] }, step.ids.flat());
    const positions = step.ids.flatMap((row, b) => row.map((_, t) => (past[b] ?? 0) + t));
    fill({ name: 'position_ids', type: 'i64', shape: ['B', 'T'] }, positions);
    fill(
      { name: 'seqlens_k', type: 'i32', shape: ['B'] },
      past.map((length) => length + tokens - 1),
    );
    fill({ name: 'total_sequence_length', type: 'i32', shape: [1] }, [Math.max(...past) + tokens]);
    fill({ name: 'logit_rows', type: 'i64', shape: ['R'] }, rows);

    for (const [i, segment] of this.#model.segments.entries()) {
      const session = this.#sessions[i];
      if (session === undefined) throw new Error('the runner is disposed');
      const binding = stack.use(session.createBinding());
      for (const spec of segment.inputs) binding.input(spec.name, values.get(spec.name) ?? allocate(spec));
      for (const spec of segment.outputs) binding.output(spec.name, allocate(spec));
      for (const layer of segment.cacheLayers) {
        for (const [half, letter] of ['k', 'v'].entries()) {
          const slot = stack.use(this.#slot(2 * layer + half, step.firstSlot ?? 0, batch));
          binding.input(`past_${letter}.${layer}`, slot).output(`present_${letter}.${layer}`, slot);
        }
      }
      await session.run(binding);
    }
    const logits = values.get('logits')?.buffer.bytes() ?? new Uint8Array();
    return new Float32Array(logits.slice().buffer, 0, rows.length * this.#model.vocabSize);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const session of this.#sessions.splice(0)) await session[Symbol.asyncDispose]();
    this.#stack[Symbol.dispose]();
  }

  /** `batch` slots of a cache, from `first` on. */
  #slot(index: number, first: number, batch: number): Tensor {
    const cache = this.#caches[index];
    if (cache === undefined) throw new Error(`no cache ${index}`);
    const [slots = 1, ...rest] = cache.shape;
    return Tensor.of(cache.buffer, (cache.byteLength / slots) * first, 'f32', [batch, ...rest]);
  }
}
