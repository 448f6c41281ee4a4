import { fail } from '@causeway/errors';
import type { LoadedModel, Segment } from '@causeway/models';
import type { Binding, Runtime, Session, SessionThreads, Tensor } from '@causeway/ort';
import type { LoopTime } from './loop-time.ts';
import { addCalls, type ExpertCalls, type ExpertLayer, type RemoteExperts, type StartedExpertRun } from './remote-experts.ts';
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

/** What experts elsewhere were asked in one run. */
export interface RunExperts {
  /** Calls of each row. */
  calls: readonly ExpertCalls[];
  /** Layers, in order. */
  layers: readonly ExpertLayer[];
}

interface BoundSegment {
  segment: Segment;
  /** None where experts elsewhere compute. */
  graph: { session: Session; binding: Binding } | undefined;
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
  readonly #sessions: (Session | undefined)[];
  readonly #experts: RemoteExperts | undefined;
  readonly #slots: Slots;
  readonly #workspace: Workspace;
  readonly #time: LoopTime;
  /** Each sequence of a decode step has a run of its own. */
  readonly #apart: boolean;
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
    /** For models whose routed experts are computed elsewhere. */
    experts?: RemoteExperts | undefined;
    /** As of EngineOptions. */
    threads?: SessionThreads | undefined;
    /** As of EngineDebug. */
    profile?: string | undefined;
    /** Execution provider; default the CPU's. */
    provider?: string | undefined;
    /** Each sequence of a decode step has a run of its own. Default false. */
    apart?: boolean;
  }): Promise<Executor> {
    const sessions: (Session | undefined)[] = [];
    const settings = {
      ...(o.threads === undefined || o.model.segments.length > 1 ? {} : { threads: o.threads }),
      ...(o.profile === undefined ? {} : { profile: o.profile }),
      ...(o.provider === undefined ? {} : { provider: o.provider }),
    };
    let next = o.model.segments[0]?.weights();
    try {
      for (const [i, segment] of o.model.segments.entries()) {
        const initializers = await next;
        next = o.model.segments[i + 1]?.weights();
        // Whoever waits for it hears of its failure.
        next?.catch(() => undefined);
        if (segment.content.kind === 'remote-experts') {
          if (o.experts === undefined)
            fail('internal', 'internal', `segment ${segment.name} needs remote experts; the engine has none`);
          sessions.push(undefined);
          continue;
        }
        sessions.push(
          await o.runtime.createSession(segment.graph, { ...settings, ...(initializers === undefined ? {} : { initializers }) }),
        );
        segment.releaseWeights();
      }
      return new Executor(o, sessions, new Workspace(o.model.segments, o.largest));
    } catch (error) {
      // Nothing may write into memory that the caller is about to free.
      await next?.catch(() => undefined);
      for (const session of sessions) await session?.[Symbol.asyncDispose]();
      throw error;
    }
  }

  private constructor(
    o: { model: LoadedModel; slots: Slots; time: LoopTime; experts?: RemoteExperts | undefined; apart?: boolean },
    sessions: (Session | undefined)[],
    workspace: Workspace,
  ) {
    this.vocabSize = o.model.vocabSize;
    this.#model = o.model;
    this.#sessions = sessions;
    this.#slots = o.slots;
    this.#workspace = workspace;
    this.#time = o.time;
    this.#experts = o.experts;
    this.#apart = o.apart === true;
  }

  /** Address space of inputs, intermediates and logits. */
  get workspaceBytes(): number {
    return this.#workspace.byteLength;
  }

  /**
   * Runs `rows` on the slots from `firstRow` on and computes the logits of `logitRows` (row * tokens + token). The next segment
   * waits for `afterSegment`. Segments that don't need the answers of experts elsewhere run meanwhile. Tells what experts
   * elsewhere were asked.
   * @throws ServiceError `cancelled` when the signal ended the run, `expert_unavailable`, or `runtime` with ONNX Runtime's message.
   */
  async run(
    firstRow: number,
    rows: readonly RunRow[],
    logitRows: readonly number[],
    signal?: AbortSignal,
    afterSegment?: (segment: number) => Promise<void>,
  ): Promise<RunExperts> {
    if (!this.#apart || rows.length === 1) return this.#run(firstRow, rows, logitRows, signal, afterSegment);
    if (logitRows.length !== rows.length) fail('internal', 'internal', 'sequences that run apart have one row of logits each');
    const runs: RunExperts[] = [];
    // Each run leaves its logits in the first row; the first sequence's stay there.
    for (const [i, row] of [...rows.entries()].toReversed()) {
      runs.unshift(await this.#run(firstRow + i, [row], [0], signal, undefined));
      if (i > 0) this.#time.section('keep logits', () => this.logits(i).set(this.logits(0)));
    }
    return { calls: runs.flatMap(({ calls }) => calls), layers: runs.flatMap(({ layers }) => layers) };
  }

  async #run(
    firstRow: number,
    rows: readonly RunRow[],
    logitRows: readonly number[],
    signal: AbortSignal | undefined,
    afterSegment: ((segment: number) => Promise<void>) | undefined,
  ): Promise<RunExperts> {
    const size = { batch: rows.length, tokens: rows[0]?.ids.length ?? 0, logitRows: logitRows.length };
    const bound = this.#time.section('bind', () => {
      this.#writeInputs(rows, logitRows);
      return this.#bind(firstRow, size);
    });
    const calls = rows.map(() => new Map<string, number>());
    const layers: ExpertLayer[] = [];
    let remote: { output: string; run: StartedExpertRun } | undefined;
    const answered = async (): Promise<void> => {
      const answers = await remote?.run.done;
      remote = undefined;
      if (answers === undefined) return;
      for (const [row, ofRow] of answers.calls.entries()) addCalls(calls[row] as Map<string, number>, ofRow);
      layers.push(answers.layer);
    };
    try {
      for (const [index, { segment, graph }] of bound.segments.entries()) {
        if (remote !== undefined && segment.inputs.some(({ name }) => name === remote?.output)) {
          await this.#time.elsewhere(answered());
        }
        if (graph === undefined) {
          const run = this.#startExperts(bound, segment, rows.length, signal);
          remote = { output: segment.outputs[0]?.name ?? '', run };
          await this.#time.elsewhere(run.sent);
        } else {
          await this.#time.elsewhere(graph.session.run(graph.binding, signal === undefined ? {} : { signal }));
        }
        await afterSegment?.(index);
      }
    } catch (error) {
      // The experts' answers still come into memory of this run.
      await remote?.run.done.catch(() => undefined);
      throw error;
    }
    return { calls, layers };
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
      for (const { graph, caches } of bound.segments) {
        graph?.binding[Symbol.dispose]();
        for (const tensor of caches) tensor[Symbol.dispose]();
      }
      for (const tensor of bound.values.values()) tensor[Symbol.dispose]();
    }
    this.#bound.clear();
    for (const session of this.#sessions.splice(0)) await session?.[Symbol.asyncDispose]();
    this.#workspace[Symbol.dispose]();
  }

  #startExperts(bound: BoundModel, segment: Segment, batch: number, signal: AbortSignal | undefined): StartedExpertRun {
    const value = (at: 'inputs' | 'outputs', index: number): Tensor =>
      bound.values.get(segment[at][index]?.name ?? '') ??
      fail('internal', 'internal', `${segment.name}: ${at} ${index} is not bound`);
    if (this.#experts === undefined || segment.content.kind !== 'remote-experts') {
      return fail('internal', 'internal', `segment ${segment.name} has no graph`);
    }
    return this.#experts.start({
      layer: segment.content.layer,
      batch,
      rows: value('inputs', 0),
      ids: value('inputs', 1),
      weights: value('inputs', 2),
      output: value('outputs', 0),
      signal,
    });
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
      const session = this.#sessions[i];
      if (session === undefined) return { segment, graph: undefined, caches: [] };
      const binding = session.createBinding();
      const caches = this.#slots.sections
        .filter(({ layer }) => segment.cacheLayers.includes(layer))
        .map((section) => {
          const tensor = this.#slots.tensor(section, firstRow, batch);
          for (const name of section.pastNames) binding.input(name, tensor);
          for (const name of section.presentNames) binding.output(name, tensor);
          return tensor;
        });
      return { segment, graph: { session, binding }, caches };
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
    for (const { graph, segment } of bound.segments) {
      for (const { name } of segment.inputs) if (!CACHE_NAME.test(name)) graph?.binding.input(name, tensor(name));
      for (const { name } of segment.outputs) {
        if (graph === undefined) tensor(name);
        else if (!CACHE_NAME.test(name)) graph.binding.output(name, tensor(name));
      }
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
