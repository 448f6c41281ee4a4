import type { LoadedModel, Segment } from '@causeway/models';
import type { Binding, Runtime, Session, SessionThreads, Tensor } from '@causeway/ort';
import type { LoopTime } from './loop-time.ts';
import type { Slots } from './slots.ts';
import { type RunSize, Workspace } from './workspace.ts';

/** Caches may be listed among a segment's inputs; they are bound to slots. */
const CACHE_NAME = /^(past|present)_[kv]\./;

/** The new tokens of one sequence in a run. */
export interface RunRow {
  /** Token ids, all rows of a run equally many. */
  ids: ArrayLike<number>;
  /** Position of the first of them: KV before it is in the slot. */
  position: number;
}

interface BoundSegment {
  session: Session;
  segment: Segment;
  binding: Binding;
  caches: Tensor[];
}

/** The segments bound to `batch` slots from `firstRow` on, shaped for `size`. */
interface BoundModel {
  segments: BoundSegment[];
  values: Map<string, Tensor>;
  size: RunSize | undefined;
}

/**
 * Runs a model's segments in sequence over shared buffers, KV in place in the slots. Runs are asynchronous and can be terminated
 * by a signal. Bindings are kept per range of slots; only what changes shape is bound again. Not reentrant: the engine's loop is
 * its only caller.
 */
export class Executor implements AsyncDisposable {
  readonly vocabSize: number;
  readonly #model: LoadedModel;
  readonly #sessions: Session[];
  readonly #slots: Slots;
  readonly #workspace: Workspace;
  readonly #time: LoopTime;
  readonly #bound = new Map<string, BoundModel>();

  /**
   * Makes a session of each segment, one after another: its weights are copied while ONNX Runtime packs them, and freed then. Those of the
   * next are made meanwhile.
   */
  static async create(o: {
    runtime: Runtime;
    model: LoadedModel;
    slots: Slots;
    time: LoopTime;
    /** Largest decode and prefill runs. */
    largest: readonly RunSize[];
    /** As of EngineOptions. */
    threads?: SessionThreads | undefined;
    /** As of EngineDebug. */
    profile?: string | undefined;
  }): Promise<Executor> {
    const sessions: Session[] = [];
    const settings = {
      ...(o.threads === undefined || o.model.segments.length > 1 ? {} : { threads: o.threads }),
      ...(o.profile === undefined ? {} : { profile: o.profile }),
    };
    let next = o.model.segments[0]?.weights();
    try {
      for (const [i, segment] of o.model.segments.entries()) {
        const initializers = await next;
        next = o.model.segments[i + 1]?.weights();
        // Whoever waits for it hears of its failure.
        next?.catch(() => undefined);
        sessions.push(
          await o.runtime.createSession(segment.graph, { ...settings, ...(initializers === undefined ? {} : { initializers }) }),
        );
        segment.releaseWeights();
      }
      return new Executor(o, sessions, new Workspace(o.model.segments, o.largest));
    } catch (error) {
      // Nothing may write into memory that the caller is about to free.
      await next?.catch(() => undefined);
      for (const session of sessions) await session[Symbol.asyncDispose]();
      throw error;
    }
  }

  private constructor(o: { model: LoadedModel; slots: Slots; time: LoopTime }, sessions: Session[], workspace: Workspace) {
    this.vocabSize = o.model.vocabSize;
    this.#model = o.model;
    this.#sessions = sessions;
    this.#slots = o.slots;
    this.#workspace = workspace;
    this.#time = o.time;
  }

  /** Address space of inputs, intermediates and logits. */
  get workspaceBytes(): number {
    return this.#workspace.byteLength;
  }

  /**
   * Runs `rows` on the slots from `firstRow` on and computes the logits of `logitRows` (row * tokens + token). The next segment
   * waits for `afterSegment`.
   * @throws ServiceError `cancelled` when the signal ended the run, `runtime` with ONNX Runtime's message otherwise.
   */
  async run(
    firstRow: number,
    rows: readonly RunRow[],
    logitRows: readonly number[],
    signal?: AbortSignal,
    afterSegment?: (segment: number) => Promise<void>,
  ): Promise<void> {
    const size = { batch: rows.length, tokens: rows[0]?.ids.length ?? 0, logitRows: logitRows.length };
    const bound = this.#time.section('bind', () => {
      this.#writeInputs(rows, logitRows);
      return this.#bind(firstRow, size);
    });
    for (const [index, { session, binding }] of bound.segments.entries()) {
      await this.#time.elsewhere(session.run(binding, signal === undefined ? {} : { signal }));
      await afterSegment?.(index);
    }
  }

  /** Logits of the last run's `index`-th logit row: f32 [vocabSize], a view that the next run overwrites. */
  logits(index: number, count = 1): Float32Array {
    const bytes = this.#workspace.bytes('logits');
    return new Float32Array(bytes.buffer, bytes.byteOffset + index * this.vocabSize * 4, count * this.vocabSize);
  }

  /** The first `rows` of the last run's logit rows for ONNX Runtime: f32 [rows, vocabSize], in the same memory. */
  logitsTensor(rows: number): Tensor {
    return this.#workspace.tensor('logits', { batch: 1, tokens: rows, logitRows: rows });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const bound of this.#bound.values()) {
      for (const { binding, caches } of bound.segments) {
        binding[Symbol.dispose]();
        for (const tensor of caches) tensor[Symbol.dispose]();
      }
      for (const tensor of bound.values.values()) tensor[Symbol.dispose]();
    }
    this.#bound.clear();
    for (const session of this.#sessions.splice(0)) await session[Symbol.asyncDispose]();
    this.#workspace[Symbol.dispose]();
  }

  #writeInputs(rows: readonly RunRow[], logitRows: readonly number[]): void {
    const i64 = (name: string) => view(this.#workspace.bytes(name), BigInt64Array);
    const i32 = (name: string) => view(this.#workspace.bytes(name), Int32Array);
    const ids = i64('token_ids');
    const positions = i64('position_ids');
    const seqlens = i32('seqlens_k');
    let longest = 0;
    rows.forEach((row, b) => {
      const tokens = row.ids.length;
      for (let t = 0; t < tokens; t++) {
        ids[b * tokens + t] = BigInt(row.ids[t] as number);
        positions[b * tokens + t] = BigInt(row.position + t);
      }
      const total = row.position + tokens;
      seqlens[b] = total - 1;
      longest = Math.max(longest, total);
    });
    i32('total_sequence_length')[0] = longest;
    const wanted = i64('logit_rows');
    logitRows.forEach((row, i) => {
      wanted[i] = BigInt(row);
    });
  }

  #bind(firstRow: number, size: RunSize): BoundModel {
    const key = `${firstRow}+${size.batch}`;
    const known = this.#bound.get(key);
    const bound = known ?? {
      segments: this.#bindCaches(firstRow, size.batch),
      values: new Map<string, Tensor>(),
      size: undefined,
    };
    if (known === undefined) this.#bound.set(key, bound);
    if (bound.size?.tokens !== size.tokens || bound.size.logitRows !== size.logitRows) this.#bindValues(bound, size);
    return bound;
  }

  #bindCaches(firstRow: number, batch: number): BoundSegment[] {
    return this.#model.segments.map((segment, i) => {
      const session = this.#sessions[i] as Session;
      const binding = session.createBinding();
      const caches = this.#slots.sections
        .filter(({ layer }) => segment.cacheLayers.includes(layer))
        .map((section) => {
          const tensor = this.#slots.tensor(section, firstRow, batch);
          for (const name of section.pastNames) binding.input(name, tensor);
          for (const name of section.presentNames) binding.output(name, tensor);
          return tensor;
        });
      return { session, segment, binding, caches };
    });
  }

  #bindValues(bound: BoundModel, size: RunSize): void {
    const old = [...bound.values.values()];
    bound.values.clear();
    const tensor = (name: string): Tensor => {
      const value = bound.values.get(name) ?? this.#workspace.tensor(name, size);
      bound.values.set(name, value);
      return value;
    };
    for (const { binding, segment } of bound.segments) {
      for (const { name } of segment.inputs) if (!CACHE_NAME.test(name)) binding.input(name, tensor(name));
      for (const { name } of segment.outputs) if (!CACHE_NAME.test(name)) binding.output(name, tensor(name));
    }
    bound.size = size;
    for (const value of old) value[Symbol.dispose]();
  }
}

function view<T>(
  bytes: Uint8Array,
  type: { new (buffer: ArrayBufferLike, offset: number, length: number): T; BYTES_PER_ELEMENT: number },
): T {
  return new type(bytes.buffer, bytes.byteOffset, bytes.byteLength / type.BYTES_PER_ELEMENT);
}
