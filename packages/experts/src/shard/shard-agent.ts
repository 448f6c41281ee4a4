/** Makes a shard follow the placement: loads what the next one wants, keeps what some worker still uses, drops the rest. */
import { ServiceError } from '@causeway/errors';
import { TaskGroup } from '@causeway/lifecycle';
import type { RegistryLogger } from '@causeway/registry';
import type { ExpertView } from '../placement/expert-view.ts';
import { expertsOf, type Placement } from '../placement/placement.ts';
import type { HeldExperts } from './held-experts.ts';

export class ShardAgent implements AsyncDisposable {
  readonly #o: { id: string; fingerprint: string; view: ExpertView; held: HeldExperts; log: RegistryLogger; changed: () => void };
  readonly #tasks: TaskGroup;
  readonly #watch: Disposable;
  readonly #inUse = new Map<number, number>();
  #refused: { epoch: number; reason: string } | undefined;
  #working = false;
  #again = false;

  /** `changed` is called when what the shard's record says changed. */
  constructor(o: {
    id: string;
    fingerprint: string;
    view: ExpertView;
    held: HeldExperts;
    log: RegistryLogger;
    changed: () => void;
    onCrash: (error: unknown) => void;
  }) {
    this.#o = o;
    this.#tasks = new TaskGroup({ onCrash: o.onCrash });
    this.#watch = o.view.onChange(() => this.#kick());
    this.#kick();
  }

  /** The placement that could not be loaded last, and why. */
  get refused(): { epoch: number; reason: string } | undefined {
    return this.#refused;
  }

  /** The experts of the placement in force are here. */
  get ready(): boolean {
    const { placement } = this.#o.view.snapshot;
    return placement !== undefined && this.#o.held.epochs.includes(placement.epoch);
  }

  /** Counts a worker that uses this placement. */
  uses(epoch: number): Disposable {
    this.#inUse.set(epoch, (this.#inUse.get(epoch) ?? 0) + 1);
    return {
      [Symbol.dispose]: () => {
        const left = (this.#inUse.get(epoch) ?? 1) - 1;
        if (left === 0) this.#inUse.delete(epoch);
        else this.#inUse.set(epoch, left);
        this.#kick();
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#watch[Symbol.dispose]();
    await this.#tasks[Symbol.asyncDispose]();
  }

  #kick(): void {
    this.#again = true;
    if (this.#working) return;
    this.#working = true;
    void this.#tasks.spawn('expert loading', async (signal) => {
      try {
        while (this.#again && !signal.aborted) {
          this.#again = false;
          await this.#follow(signal);
        }
      } finally {
        this.#working = false;
      }
    });
  }

  async #follow(signal: AbortSignal): Promise<void> {
    const { view, held } = this.#o;
    const { placement, next } = view.snapshot;
    const before = held.epochs.join();
    for (const wanted of [placement, next]) if (wanted !== undefined) await this.#load(wanted, signal);
    const used = [...this.#inUse.keys()];
    // Workers that know nothing newer than epoch e may still send by it.
    const oldest = Math.min(placement?.epoch ?? 0, ...used.filter((epoch) => epoch > 0));
    const { placement: now, next: after } = view.snapshot;
    const keep = held.epochs.filter((epoch) => epoch >= oldest && (epoch <= (now?.epoch ?? 0) || epoch === after?.epoch));
    await held.keepOnly(new Set(keep));
    if (held.epochs.join() !== before) this.#o.changed();
  }

  async #load(wanted: Placement, signal: AbortSignal): Promise<void> {
    const { id, fingerprint, held, log } = this.#o;
    if (held.epochs.includes(wanted.epoch) || this.#refused?.epoch === wanted.epoch || wanted.fingerprint !== fingerprint) return;
    const experts = expertsOf(wanted, id);
    if (experts.size === 0 && !wanted.shards.includes(id)) return;
    const start = performance.now();
    try {
      await held.prepare(wanted.epoch, experts, signal);
      log.info(
        { epoch: wanted.epoch, experts: held.experts, bytes: held.usedBytes, ms: performance.now() - start },
        'experts loaded',
      );
    } catch (error) {
      if (signal.aborted) return;
      const { message } = ServiceError.from(error);
      this.#refused = { epoch: wanted.epoch, reason: message.slice(0, 2048) };
      log.error({ err: error, epoch: wanted.epoch }, 'experts of a placement could not be loaded');
    }
    this.#o.changed();
  }
}
