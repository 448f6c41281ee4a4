/**
 * A transfer whose sender stores KV in another form than travels: blocks become wire order in codec threads as their tokens are
 * computed, and are offered then.
 */
import { ServiceError } from '@causeway/errors';
import type { LayerRange, PageSet, WireMemory } from '@causeway/kv';
import type { Outbound } from './outbound.ts';
import type { FirstTokenOptions, OutboundTransfer, Ticket, TransferStats } from './types.ts';

export class ConvertingOutbound implements OutboundTransfer {
  readonly #inner: Outbound;
  readonly #memory: WireMemory;
  readonly #pages: PageSet;
  readonly #ticket: Ticket;
  /** Per layer: blocks [0, end) are converted, or are being. */
  readonly #ends: number[];
  /** Conversions, one after another, and what follows each. */
  #work: Promise<void> = Promise.resolve();
  #convertMs = 0;
  /** Resolves when nothing of this transfer touches pages or their shadows any more. */
  readonly settled: Promise<void>;

  constructor(inner: Outbound, o: { memory: WireMemory; pages: PageSet; ticket: Ticket }) {
    this.#inner = inner;
    this.#memory = o.memory;
    this.#pages = o.pages;
    this.#ticket = o.ticket;
    this.#ends = o.memory.descriptor.layers.map(() => 0);
    this.settled = this.#discardAtEnd();
  }

  get failed(): AbortSignal {
    return this.#inner.failed;
  }

  get stats(): TransferStats {
    return { ...this.#inner.stats, convertMs: this.#convertMs };
  }

  offer(endToken: number, layers?: LayerRange): void {
    const { blockTokens } = this.#memory.descriptor.storage;
    // a block that is not full is converted with the tokens that fill it
    const whole = endToken >= this.#ticket.tokens ? this.#ticket.tokens : endToken - (endToken % blockTokens);
    this.#convert(Math.ceil(whole / blockTokens), layers);
    this.#then(() => this.#inner.offer(whole, layers));
  }

  offerFinal(layers?: LayerRange): void {
    this.offer(this.#ticket.tokens, layers);
    this.#then(() => this.#inner.offerFinal(layers));
  }

  async finish(options: FirstTokenOptions): Promise<TransferStats> {
    this.offer(this.#ticket.tokens);
    await this.#work;
    const stats = await this.#inner.finish(options);
    return { ...stats, convertMs: this.#convertMs };
  }

  abort(reason: string): void {
    this.#inner.abort(reason);
  }

  #convert(end: number, layers: LayerRange | undefined): void {
    const { firstLayer, layerCount } = layers ?? { firstLayer: 0, layerCount: this.#ends.length };
    const first = Math.min(...this.#ends.slice(firstLayer, firstLayer + layerCount));
    if (first >= end) return;
    this.#ends.fill(end, firstLayer, firstLayer + layerCount);
    this.#then(async () => {
      using _hold = this.#pages.hold();
      this.#convertMs += await this.#memory.convert('toWire', this.#pages, first, end, layers);
    });
  }

  /** Does this after what is under way, unless the transfer has ended by then. */
  #then(step: () => void | Promise<void>): void {
    this.#work = this.#work.then(async () => {
      if (!this.#inner.active) return;
      try {
        await step();
      } catch (error) {
        this.#inner.fail(ServiceError.from(error), true);
      }
    });
  }

  async #discardAtEnd(): Promise<void> {
    using _hold = this.#pages.hold();
    await this.#inner.settled();
    await this.#work;
    this.#memory.discard(this.#pages);
  }
}
