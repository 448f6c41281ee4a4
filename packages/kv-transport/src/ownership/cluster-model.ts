/**
 * Two sending and two receiving workers with the real endpoints, on a simulated network, in virtual time. What workers do with their
 * pages here is what prefill and decode workers do; everything that may go wrong in between is the scheduler's choice.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { KvCodec, KvDescriptor, KvLayout } from '@causeway/kv';
import { PagePool } from '@causeway/kv';
import { vi } from 'vitest';
import { KvEndpoint } from '../endpoint.ts';
import { makeFingerprint } from '../test-workers.ts';
import type { InboundTransfer, OutboundTransfer, TransportCounters } from '../types.ts';
import { type Mutation, mutatedPool } from './mutations.ts';
import { newMark, OwnershipViolation, PageLedger, type Reservation } from './page-ledger.ts';
import { ScheduledCodecs } from './scheduled-codecs.ts';
import { type SimulatedLink, SimulatedNetwork } from './simulated-network.ts';

export const BLOCK_TOKENS = 16;
/** Each has objects of its own, one a page: blocks of some layers are complete, and converted, before others arrive. */
const LAYERS = 2;
/** Holds one frame with a part of 1 KiB: two parts an object. */
const MAX_PAYLOAD = 1_088;
const POOL_PAGES = 8;
const SILENCE_MS = 5_000;
/** Of 250 ms, then of 2.5 s: all together longer than any deadline. */
const HASTY_ROUNDS = 24;
const END_ROUNDS = 60;

const CHIPS: readonly { role: Role; layout: KvLayout; codec: KvCodec }[] = [
  { role: 'prefill', layout: 'NHD', codec: 'zstd' },
  { role: 'prefill', layout: 'HND', codec: 'none' },
  { role: 'decode', layout: 'NHD', codec: 'none' },
  { role: 'decode', layout: 'HND', codec: 'none' },
];

export type Role = 'prefill' | 'decode';

function descriptorOf(layout: KvLayout): KvDescriptor {
  const layer = { kind: 'full', kvHeads: 2, headDimK: 8, headDimV: 8 } as const;
  const layers = Array.from({ length: LAYERS }, () => layer);
  return { version: 1, layers, storage: { dtype: 'f32', layout, blockTokens: BLOCK_TOKENS, shards: { count: 1, index: 0 } } };
}

export interface Worker {
  role: Role;
  place: number;
  endpoint: KvEndpoint;
  ledger: PageLedger;
  codecs: ScheduledCodecs;
  links: SimulatedLink[];
  /** It stores KV in another form than travels. */
  converts: boolean;
}

/** A ticket and the pages behind it, as a decode worker holds them. */
export interface Receiving {
  worker: Worker;
  pages: Reservation;
  tokens: number;
  mark: number;
  inbound: InboundTransfer;
  outcome: 'open' | 'committed' | 'failed';
  sending: Sending | undefined;
}

/** Pages that are sent, as a prefill worker holds them. */
export interface Sending {
  worker: Worker;
  pages: Reservation;
  outbound: OutboundTransfer;
  receiving: Receiving;
  computed: number;
  finishing: boolean;
  outcome: 'open' | 'sent' | 'failed';
}

/** How often what happened in all runs; a zero would mean that the checker looks at nothing. */
export type Tally = Record<string, number>;

export class ClusterModel {
  readonly network = new SimulatedNetwork(MAX_PAYLOAD);
  readonly workers: Worker[] = [];
  receiving: Receiving[] = [];
  sending: Sending[] = [];
  forks: Reservation[] = [];
  readonly tally: Tally;
  readonly mutation: Mutation | undefined;
  readonly #gone: { worker: Worker; closed: Promise<void> }[] = [];
  #incarnations = 0;
  #violation: string | undefined;

  private constructor(tally: Tally, mutation: Mutation | undefined) {
    this.tally = tally;
    this.mutation = mutation;
  }

  static async start(tally: Tally, mutation?: Mutation): Promise<ClusterModel> {
    const model = new ClusterModel(tally, mutation);
    for (const place of CHIPS.keys()) model.workers[place] = await model.#startWorker(place);
    return model;
  }

  count(what: string, times = 1): void {
    this.tally[what] = (this.tally[what] ?? 0) + times;
  }

  /** Also those of processes that are about to end. */
  get codecs(): ScheduledCodecs[] {
    return [...this.workers, ...this.#gone.map(({ worker }) => worker)].map(({ codecs }) => codecs);
  }

  of(role: Role): Worker[] {
    return this.workers.filter((worker) => worker.role === role);
  }

  /** Gives a ticket for fresh pages, or for those that a failed transfer left. */
  receive(worker: Worker, pages: Reservation, pageCount: number, deadlineMs: number): void {
    const mark = newMark();
    worker.ledger.expect(pages, mark, pageCount);
    const signal = new AbortController().signal;
    const tokens = pageCount * BLOCK_TOKENS;
    const order = {
      chunkEnds: Array.from({ length: pageCount }, (_, chunk) => (chunk + 1) * BLOCK_TOKENS),
      groups: Array.from({ length: LAYERS }, (_, firstLayer) => ({ firstLayer, layerCount: 1 })),
    };
    const inbound = worker.endpoint.receive({ pages: pages.set, tokens, order, deadlineMs, signal });
    const receiving: Receiving = { worker, pages, tokens, mark, inbound, outcome: 'open', sending: undefined };
    void inbound.committed.then(
      () => {
        receiving.outcome = 'committed';
        this.count('committed');
      },
      () => {
        receiving.outcome = 'failed';
        this.count('failed');
      },
    );
    this.receiving.push(receiving);
  }

  send(worker: Worker, receiving: Receiving): void {
    const pages = worker.ledger.reserve(receiving.tokens / BLOCK_TOKENS);
    if (pages === undefined) return;
    worker.ledger.expect(pages, receiving.mark, receiving.tokens / BLOCK_TOKENS);
    const signal = new AbortController().signal;
    const outbound = worker.endpoint.send({ ticket: receiving.inbound.ticket, pages: pages.set, signal });
    const sending: Sending = { worker, pages, outbound, receiving, computed: 0, finishing: false, outcome: 'open' };
    outbound.failed.addEventListener('abort', () => (sending.outcome = 'failed'), { once: true });
    receiving.sending = sending;
    this.sending.push(sending);
  }

  /** Says that everything is computed; notes what the sender is told. */
  finish(sending: Sending): void {
    const { worker, pages, receiving, outbound } = sending;
    if (sending.finishing) return;
    sending.finishing = true;
    sending.computed = pages.own.length;
    worker.ledger.compute(pages, pages.own.length);
    void outbound.finish({}).then(
      () => {
        sending.outcome = 'sent';
        this.count('sent');
        if (receiving.outcome !== 'committed') this.#violation ??= 'a sender was told that pages are committed which are not';
      },
      () => (sending.outcome = 'failed'),
    );
  }

  /** The process of a worker is gone, and another with its name begins. */
  async crash(worker: Worker): Promise<void> {
    for (const link of worker.links) link.kill();
    for (const receiving of this.receiving) if (receiving.worker === worker) receiving.pages.set[Symbol.dispose]();
    for (const sending of this.sending) if (sending.worker === worker) sending.pages.set[Symbol.dispose]();
    for (const fork of this.forks) if (worker.ledger.owns(fork)) fork.set[Symbol.dispose]();
    this.receiving = this.receiving.filter((receiving) => receiving.worker !== worker);
    this.sending = this.sending.filter((sending) => sending.worker !== worker);
    this.forks = this.forks.filter((fork) => !worker.ledger.owns(fork));
    this.#gone.push({ worker, closed: worker.endpoint[Symbol.asyncDispose]() });
    this.#countCounters(worker);
    this.workers[worker.place] = await this.#startWorker(worker.place);
  }

  /** Lets everything happen that waits for nothing but its turn. */
  async settle(): Promise<void> {
    for (let before = -1, quiet = 0; quiet < 2; ) {
      await nextTurn();
      const now = this.#activity();
      quiet = now === before ? quiet + 1 : 0;
      before = now;
    }
  }

  /** @throws OwnershipViolation */
  check(): void {
    for (const { ledger } of this.workers) ledger.check();
    for (const { worker } of this.#gone) worker.ledger.check();
    for (const receiving of this.receiving) {
      this.#countEarly(receiving);
      const { outcome, pages } = receiving;
      const { epoch, state } = pages.set;
      if (outcome === 'committed' || (state !== 'committed' && state !== 'owned')) continue;
      throw new OwnershipViolation(`pages of epoch ${epoch} are ${state} before their transfer is committed`);
    }
    if (this.#violation !== undefined) throw new OwnershipViolation(this.#violation);
  }

  /** Nothing goes wrong any more: every transfer ends, every page comes back. */
  async end(): Promise<void> {
    for (const worker of this.workers) for (const link of worker.links) link.reconnect();
    for (const sending of this.sending) if (sending.outcome === 'open') this.finish(sending);
    for (let round = 0; round < END_ROUNDS && this.#open > 0; round++) {
      await this.settle();
      for (const { links } of this.workers) for (const link of links) while (this.network.take(link));
      for (const message of this.network.underWay.splice(0)) this.network.deliver(message);
      for (const { links } of this.workers) for (const link of links) link.completeFlushes();
      for (const codecs of this.codecs) while (codecs.run(0));
      await this.settle();
      this.check();
      vi.advanceTimersByTime(round < HASTY_ROUNDS ? 250 : 2_500);
    }
    if (this.#open > 0) throw new OwnershipViolation(`${this.#open} transfers never ended`);
    for (const { pages } of [...this.receiving, ...this.sending]) pages.set[Symbol.dispose]();
    for (const fork of this.forks) fork.set[Symbol.dispose]();
    await this.settle();
    for (const worker of this.workers) {
      for (const link of worker.links) link.kill();
      this.#gone.push({ worker, closed: worker.endpoint[Symbol.asyncDispose]() });
      this.#countCounters(worker);
    }
    for (const { worker, closed } of this.#gone) {
      do {
        while (worker.codecs.run(0));
        await this.settle();
      } while (worker.codecs.waiting.length > 0);
      await closed;
      worker.ledger.checkAllFree();
      worker.ledger.pool[Symbol.dispose]();
    }
  }

  /** Counts pages that were made of parts while their sender had others to compute still. */
  #countEarly({ worker, pages, outcome, sending }: Receiving): void {
    if (!worker.converts || outcome !== 'open' || sending === undefined || sending.computed >= sending.pages.own.length) return;
    if (worker.ledger.begun(pages)) this.count('converted early');
  }

  get #open(): number {
    return this.workers.reduce((sum, { endpoint }) => sum + endpoint.open.inbound + endpoint.open.outbound, 0);
  }

  #activity(): number {
    return this.codecs.reduce((sum, { activity }) => sum + activity, this.network.activity);
  }

  #countCounters({ endpoint }: Worker): void {
    const kinds: (keyof TransportCounters)[] = ['staleFrames', 'lateFrames', 'duplicateFrames', 'partsResent'];
    for (const kind of kinds) this.count(kind, endpoint.counters[kind]);
  }

  async #startWorker(place: number): Promise<Worker> {
    const { role, layout, codec } = CHIPS[place] as (typeof CHIPS)[number];
    const descriptor = descriptorOf(layout);
    const pool = mutatedPool(new PagePool({ descriptor, pageCount: POOL_PAGES }), this.mutation);
    const codecs = new ScheduledCodecs({
      decode: this.mutation === 'committed before written',
      convert: this.mutation === 'committed before converted',
    });
    const links: SimulatedLink[] = [];
    const endpoint = await KvEndpoint.connect({
      servers: 'simulated',
      workerId: `${role}-${place}`,
      incarnation: String(++this.#incarnations),
      pool,
      fingerprint: makeFingerprint(descriptor),
      chip: 'cpu',
      codec,
      silenceMs: SILENCE_MS,
      budgetBytes: 6 * MAX_PAYLOAD,
      codecs,
      connectLink: (options) => {
        const link = this.network.connect(options);
        links.push(link);
        return Promise.resolve(link);
      },
    });
    for (const link of links) link.started = true;
    return { role, place, endpoint, ledger: new PageLedger(pool, role === 'prefill'), codecs, links, converts: layout !== 'NHD' };
  }
}
