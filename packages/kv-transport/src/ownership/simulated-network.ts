/**
 * A NATS server and its connections that move only when the scheduler says so. Each connection has an outbox: what was published and
 * the server has not taken yet, by reference, as `nats` keeps it. What was taken is under way, as a copy, and may be delivered in any
 * order, more than once, or never: more than NATS itself does.
 */
import { ServiceError } from '@causeway/errors';
import type { KvLink } from '../kv-link.ts';
import { publishedBytes, type NatsLinkOptions } from '../nats-link.ts';

/** A message that the server has. */
export interface UnderWay {
  subject: string;
  data: Uint8Array;
}

interface Subscription {
  pattern: readonly string[];
  handle: (subject: string, data: Uint8Array) => void;
}

export class SimulatedNetwork {
  readonly #maxPayload: number;
  readonly links = new Set<SimulatedLink>();
  readonly underWay: UnderWay[] = [];
  /** Grows with everything that endpoints do to the network. */
  activity = 0;

  constructor(maxPayload: number) {
    this.#maxPayload = maxPayload;
  }

  connect(options: NatsLinkOptions): SimulatedLink {
    const link = new SimulatedLink(this, options, this.#maxPayload);
    this.links.add(link);
    return link;
  }

  /** The server takes the oldest message of a connection. */
  take(link: SimulatedLink): boolean {
    const message = link.outbox.shift();
    if (message === undefined) return false;
    this.underWay.push({ subject: message.subject, data: Uint8Array.from(message.data) });
    return true;
  }

  /** Hands a message to whoever hears its subject. */
  deliver({ subject, data }: UnderWay): void {
    for (const link of this.links) if (link.up) link.receive(subject, data);
  }

  /** What is under way to a connection that went down is lost. */
  loseWhatIsUnderWayTo(link: SimulatedLink): void {
    for (let i = this.underWay.length - 1; i >= 0; i--) {
      if (link.hears((this.underWay[i] as UnderWay).subject)) this.underWay.splice(i, 1);
    }
  }
}

export class SimulatedLink implements KvLink {
  readonly maxPayload: number;
  readonly outbox: UnderWay[] = [];
  readonly flushes: PromiseWithResolvers<void>[] = [];
  wireBytes = 0;
  up = true;
  /** Until then flushes resolve at once: an endpoint that starts is of no interest here. */
  started = false;
  readonly #network: SimulatedNetwork;
  readonly #options: NatsLinkOptions;
  readonly #subscriptions: Subscription[] = [];

  constructor(network: SimulatedNetwork, options: NatsLinkOptions, maxPayload: number) {
    this.#network = network;
    this.#options = options;
    this.maxPayload = maxPayload;
  }

  subscribe(subject: string, handle: Subscription['handle']): Promise<void> {
    this.#subscriptions.push({ pattern: subject.split('.'), handle });
    return this.flush();
  }

  publish(subject: string, data: Uint8Array): number {
    if (!this.up) return 0;
    this.#network.activity++;
    this.outbox.push({ subject, data });
    const bytes = publishedBytes(subject, data.length);
    this.wireBytes += bytes;
    return bytes;
  }

  async rttMs(): Promise<number> {
    await this.flush();
    return 1;
  }

  flush(): Promise<void> {
    if (!this.started) return Promise.resolve();
    if (!this.up) return Promise.reject(connectionLost());
    this.#network.activity++;
    const flush = Promise.withResolvers<void>();
    this.flushes.push(flush);
    return flush.promise;
  }

  /** Completes the flushes that wait: the server takes the outbox first. */
  completeFlushes(): boolean {
    if (this.flushes.length === 0) return false;
    while (this.#network.take(this));
    for (const flush of this.flushes.splice(0)) flush.resolve();
    return true;
  }

  /** The connection breaks: what the server hasn't taken, and what is under way to here, is lost. */
  disconnect(): void {
    if (!this.up) return;
    this.#lose();
    this.#options.onStatus('down', 'simulated');
  }

  reconnect(): void {
    if (this.up) return;
    this.up = true;
    this.#options.onStatus('up', 'simulated');
  }

  /** The process is gone: nobody is told. */
  kill(): void {
    this.#lose();
    this.#network.links.delete(this);
  }

  hears(subject: string): boolean {
    return this.#subscriptions.some(({ pattern }) => matches(pattern, subject));
  }

  receive(subject: string, data: Uint8Array): void {
    for (const { pattern, handle } of this.#subscriptions) if (matches(pattern, subject)) handle(subject, data);
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.kill();
    return Promise.resolve();
  }

  #lose(): void {
    this.up = false;
    this.outbox.length = 0;
    this.#network.loseWhatIsUnderWayTo(this);
    for (const flush of this.flushes.splice(0)) flush.reject(connectionLost());
  }
}

function matches(pattern: readonly string[], subject: string): boolean {
  const tokens = subject.split('.');
  return tokens.length === pattern.length && pattern.every((token, i) => token === '*' || token === tokens[i]);
}

function connectionLost(): ServiceError {
  return new ServiceError('the simulated connection is down', { code: 'unavailable', reason: 'dependency_unavailable' });
}
