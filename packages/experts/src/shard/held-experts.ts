/**
 * The experts that a shard has in memory, by placement. A new placement's experts are loaded beside those in force; old ones go when
 * nobody uses their placement any more.
 */
import { fail } from '@causeway/errors';
import type { Checkpoint } from '@causeway/model-files';
import { bytesOfExpert, type ExpertShape, loadExpertGroup, type Precision } from '@causeway/models';
import type { Runtime, Session } from '@causeway/ort';

/** Some experts of one layer, ready to run. */
export interface HeldGroup {
  layer: number;
  /** Ascending. */
  experts: readonly number[];
  /** Expert to its place in `experts`. */
  place: ReadonlyMap<number, number>;
  session: Session;
  bytes: number;
}

interface Generation {
  epoch: number;
  groups: ReadonlyMap<number, HeldGroup>;
}

export class HeldExperts implements AsyncDisposable {
  readonly #o: { runtime: Runtime; checkpoint: Checkpoint; shape: ExpertShape; precision: Precision; budgetBytes: number };
  readonly #running = new Map<HeldGroup, number>();
  readonly #retired = new Set<HeldGroup>();
  #generations: Generation[] = [];
  #bytesPerExpert = 0;

  constructor(o: { runtime: Runtime; checkpoint: Checkpoint; shape: ExpertShape; precision: Precision; budgetBytes: number }) {
    this.#o = o;
  }

  /** Epochs whose experts are held, ascending. */
  get epochs(): readonly number[] {
    return this.#generations.map(({ epoch }) => epoch);
  }

  /** Bytes of weights held. */
  get usedBytes(): number {
    return [...this.#groups(), ...this.#retired].reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** Experts held, those of several layers counted each. */
  get experts(): number {
    return [...this.#groups()].reduce((sum, { experts }) => sum + experts.length, 0);
  }

  /** Bytes of one expert in memory. Throws as `bytesOfExpert` does. */
  bytesPerExpert(): number {
    return (this.#bytesPerExpert ||= bytesOfExpert(this.#o));
  }

  /** Experts that the memory budget holds. */
  get capacity(): number {
    return Math.floor(this.#o.budgetBytes / this.bytesPerExpert());
  }

  /**
   * Loads what a placement wants here, layer by layer; a layer with the same experts as before is kept as it is.
   * @throws ServiceError `no_capacity` saying what would fit, `file_unreadable` when the checkpoint changed, `missing_tensor`, `cancelled`.
   */
  async prepare(epoch: number, wanted: ReadonlyMap<number, readonly number[]>, signal: AbortSignal): Promise<void> {
    if (this.#generations.some((generation) => generation.epoch === epoch)) return;
    const groups = new Map<number, HeldGroup>();
    const fresh: HeldGroup[] = [];
    const held = [...this.#groups()];
    try {
      for (const [layer, experts] of wanted) {
        const same = held.find((group) => group.layer === layer && sameList(group.experts, experts));
        const group = same ?? (await this.#load(layer, experts, wanted, fresh, signal));
        if (same === undefined) fresh.push(group);
        groups.set(layer, group);
      }
    } catch (error) {
      for (const group of fresh) await group.session[Symbol.asyncDispose]();
      throw error;
    }
    this.#generations = [...this.#generations, { epoch, groups }].sort((a, b) => a.epoch - b.epoch);
  }

  /** The newest group that has all of these experts of a layer. */
  find(layer: number, experts: Uint32Array): HeldGroup | undefined {
    for (let i = this.#generations.length - 1; i >= 0; i--) {
      const group = this.#generations[i]?.groups.get(layer);
      if (group !== undefined && experts.every((expert) => group.place.has(expert))) return group;
    }
    return undefined;
  }

  /** Keeps a group while a run uses it. */
  use(group: HeldGroup): Disposable {
    this.#running.set(group, (this.#running.get(group) ?? 0) + 1);
    return {
      [Symbol.dispose]: () => {
        this.#running.set(group, (this.#running.get(group) ?? 1) - 1);
        void this.#sweep();
      },
    };
  }

  /** Drops the experts of all placements but these; what runs ends first. */
  async keepOnly(epochs: ReadonlySet<number>): Promise<void> {
    const before = [...this.#groups()];
    this.#generations = this.#generations.filter(({ epoch }) => epochs.has(epoch));
    const now = this.#groups();
    for (const group of before) if (!now.has(group)) this.#retired.add(group);
    await this.#sweep();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.keepOnly(new Set());
    for (const group of this.#retired) await group.session[Symbol.asyncDispose]();
    this.#retired.clear();
  }

  #groups(): Set<HeldGroup> {
    return new Set(this.#generations.flatMap(({ groups }) => [...groups.values()]));
  }

  async #sweep(): Promise<void> {
    for (const group of this.#retired) {
      if ((this.#running.get(group) ?? 0) > 0) continue;
      this.#retired.delete(group);
      this.#running.delete(group);
      await group.session[Symbol.asyncDispose]();
    }
  }

  async #load(
    layer: number,
    experts: readonly number[],
    wanted: ReadonlyMap<number, readonly number[]>,
    fresh: readonly HeldGroup[],
    signal: AbortSignal,
  ): Promise<HeldGroup> {
    const { runtime, checkpoint, shape, precision } = this.#o;
    checkpoint.assertUnchanged();
    this.#checkRoom(experts.length, fresh, wanted);
    using group = await loadExpertGroup({ checkpoint, shape, layer, experts, precision, runtime, signal });
    this.#bytesPerExpert = group.weightBytes / experts.length;
    this.#checkRoom(experts.length, fresh, wanted);
    const session = await runtime.createSession(group.graph, { initializers: group.initializers });
    return {
      layer,
      experts,
      place: new Map(experts.map((expert, place) => [expert, place])),
      session,
      bytes: group.weightBytes,
    };
  }

  #checkRoom(more: number, fresh: readonly HeldGroup[], wanted: ReadonlyMap<number, readonly number[]>): void {
    const { budgetBytes } = this.#o;
    const each = this.bytesPerExpert();
    const loading = fresh.reduce((sum, { bytes }) => sum + bytes, 0);
    const used = this.usedBytes + loading;
    if (used + more * each <= budgetBytes) return;
    const total = [...wanted.values()].reduce((sum, experts) => sum + experts.length, 0);
    fail(
      'resource_exhausted',
      'no_capacity',
      `this shard was told to hold ${total} experts of ${each} bytes; its ${budgetBytes} bytes hold ${this.capacity} ` +
        `(${used} bytes are in use, those of the placement before included): raise CAUSEWAY_EXPERT_MEMORY_BYTES to ` +
        `${Math.ceil(used + total * each)}, or add shards`,
    );
  }
}

function sameList(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((value, i) => value === b[i]);
}
