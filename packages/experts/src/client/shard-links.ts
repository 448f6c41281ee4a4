/** Links to all shards of the placement, and which of them has an expert now. */
import { ServiceError } from '@causeway/errors';
import type { RegistryLogger } from '@causeway/registry';
import type { ChannelPool } from '@causeway/rpc';
import type { ExpertView } from '../placement/expert-view.ts';
import { homesOf, parsePlacement, type Placement } from '../placement/placement.ts';
import type { Hello } from '../wire/frame.ts';
import { ShardLink } from './shard-link.ts';

export interface ShardLinksOptions {
  view: ExpertView;
  channels: ChannelPool;
  hello: Omit<Hello, 'protocolVersion' | 'epoch'>;
  log: RegistryLogger;
  random: () => number;
}

export class ShardLinks implements Disposable {
  readonly #o: ShardLinksOptions;
  readonly #links = new Map<string, ShardLink>();
  readonly #watch: Disposable;
  readonly #waiters = new Set<() => void>();
  #placement: Placement | undefined;

  constructor(o: ShardLinksOptions) {
    this.#o = o;
    this.#watch = o.view.onChange(() => this.#follow());
    this.#follow();
  }

  /** The placement in force; undefined before the first. */
  get placement(): Placement | undefined {
    return this.#placement;
  }

  /** Whether any shard is registered, so that waiting may help. */
  get anyShard(): boolean {
    return this.#o.view.snapshot.shards.size > 0;
  }

  get all(): readonly ShardLink[] {
    return [...this.#links.values()];
  }

  /** Open links to the shards that have an expert, without the excluded. */
  homes(layer: number, expert: number, exclude: ReadonlySet<string>): ShardLink[] {
    if (this.#placement === undefined) return [];
    return homesOf(this.#placement, layer, expert).flatMap((id) => {
      const link = this.#links.get(id);
      return link?.open === true && !exclude.has(id) ? [link] : [];
    });
  }

  /** Where choices among shards come from. */
  get random(): () => number {
    return this.#o.random;
  }

  /** Resolves at the next change of placement or links. */
  changed(): Promise<void> {
    return new Promise((resolve) => this.#waiters.add(resolve));
  }

  [Symbol.dispose](): void {
    this.#watch[Symbol.dispose]();
    for (const link of this.#links.values()) link[Symbol.dispose]();
    this.#links.clear();
    this.#wake();
  }

  #follow(): void {
    const { placement, shards } = this.#o.view.snapshot;
    this.#adopt(placement);
    const gone = new Set(this.#links.keys());
    for (const [id, { address, fingerprint }] of shards) {
      if (fingerprint !== this.#o.hello.fingerprint || this.#placement?.shards.includes(id) !== true) continue;
      gone.delete(id);
      const known = this.#links.get(id);
      if (known?.address === address) continue;
      known?.[Symbol.dispose]();
      this.#links.set(id, this.#link(id, address));
    }
    for (const id of gone) {
      const link = this.#links.get(id);
      // Its lease may be over because Redis is away or slow: a stream that stands is believed.
      if (link?.open === true && this.#placement?.shards.includes(id) === true) continue;
      link?.[Symbol.dispose]();
      this.#links.delete(id);
    }
    this.#o.channels.keepOnly(new Set([...this.#links.values()].map(({ address }) => address)));
    this.#wake();
  }

  #link(shard: string, address: string): ShardLink {
    return new ShardLink({
      shard,
      address,
      channels: this.#o.channels,
      hello: () => ({ ...this.#o.hello, epoch: this.#placement?.epoch ?? 0 }),
      onChange: (link, error) => {
        if (error === undefined) this.#o.log.info({ shard, address: link.address }, 'expert shard connected');
        else this.#o.log.warn({ err: error, shard, address: link.address }, 'expert shard lost');
        this.#wake();
      },
      onPlacement: (text) => {
        const placement = parsePlacement(text);
        if (typeof placement !== 'string') this.#adopt(placement);
        this.#o.view.refresh();
      },
    });
  }

  /** A newer placement of this model is used from now on. */
  #adopt(placement: Placement | undefined): void {
    if (placement === undefined || placement.epoch <= (this.#placement?.epoch ?? 0)) return;
    if (placement.fingerprint !== this.#o.hello.fingerprint) {
      const err = new ServiceError('the experts placed in this cluster are those of another model or precision', {
        code: 'failed_precondition',
        reason: 'fingerprint_mismatch',
      });
      this.#o.log.error({ err, epoch: placement.epoch }, 'ignored an expert placement');
      return;
    }
    this.#placement = placement;
    for (const link of this.#links.values()) link.useEpoch(placement.epoch);
    this.#wake();
  }

  #wake(): void {
    for (const wake of this.#waiters) wake();
    this.#waiters.clear();
  }
}
