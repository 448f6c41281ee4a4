/** The stream to one shard: connects, comes back after a failure, and knows what is on its way. */
import { ServiceError } from '@causeway/errors';
import { backoff, sleep } from '@causeway/lifecycle';
import type { ByteStream, ChannelPool } from '@causeway/rpc';
import { encodeHello, encodeRequest, type Hello, PROTOCOL_VERSION, readReply } from '../wire/frame.ts';
import { DISPATCH_PATH } from '../wire/service.ts';
import { LatencyTrack } from './latency.ts';

/** A shard's answer to one frame. */
export interface ShardAnswer {
  /** [rows or pairs, hidden]: a view of the message. */
  body: Uint8Array;
  queueMs: number;
  computeMs: number;
  /** From sending to the answer. */
  totalMs: number;
}

export interface PendingAnswer {
  answer: Promise<ShardAnswer>;
  /** The answer isn't wanted any more. */
  cancel(): void;
}

interface Pending {
  sentAt: number;
  pairs: number;
  resolve(answer: ShardAnswer): void;
  reject(error: ServiceError): void;
  cancelled: boolean;
}

const MAX_OUTSTANDING = 4096;
/** A shard that took a connection says welcome within this time. */
const WELCOME_MS = 3000;

export interface ShardLinkOptions {
  shard: string;
  address: string;
  channels: ChannelPool;
  /** What is said first on every connection. */
  hello: () => Omit<Hello, 'protocolVersion'>;
  /** The link opened or was lost; `error` says why, once for each cause. */
  onChange: (link: ShardLink, error: ServiceError | undefined) => void;
  /** A shard answered by another placement; its text. */
  onPlacement: (text: string) => void;
}

export class ShardLink implements Disposable {
  readonly shard: string;
  readonly address: string;
  readonly latency = new LatencyTrack();
  readonly #o: ShardLinkOptions;
  readonly #closing = new AbortController();
  readonly #pending = new Map<number, Pending>();
  /** While the shard has said welcome and the call stands. */
  #stream: ByteStream | undefined;
  #lastId = 0;

  constructor(o: ShardLinkOptions) {
    this.#o = o;
    this.shard = o.shard;
    this.address = o.address;
    void this.#run();
  }

  get open(): boolean {
    return this.#stream !== undefined;
  }

  /** Frames without an answer, those that nobody waits for any more included. */
  get outstanding(): number {
    return this.#pending.size;
  }

  /** For how long the oldest of them waits, in milliseconds. */
  get oldestMs(): number {
    const first = this.#pending.values().next();
    return first.done === true ? 0 : performance.now() - first.value.sentAt;
  }

  /** How busy the shard seems: the time that a further frame will take, about. */
  get pressure(): number {
    return (this.outstanding + 1) * Math.max(this.latency.mean, this.oldestMs, 0.01);
  }

  /**
   * Sends a frame; `encode` makes the message for its id. The answer rejects with the shard's ServiceError, or `worker_lost` (retry:
   * other) when the connection is lost.
   */
  send(pairs: number, encode: (id: number) => Uint8Array): PendingAnswer {
    const id = (this.#lastId = (this.#lastId % 0xffff_ffff) + 1);
    const { promise, resolve, reject } = Promise.withResolvers<ShardAnswer>();
    // Whoever hedges may have its answer elsewhere.
    promise.catch(() => undefined);
    if (this.#stream === undefined || this.#pending.size >= MAX_OUTSTANDING) {
      reject(this.#lost('it is not connected'));
      return { answer: promise, cancel: () => undefined };
    }
    const pending: Pending = { sentAt: performance.now(), pairs, resolve, reject, cancelled: false };
    this.#pending.set(id, pending);
    this.#stream.write(encode(id));
    const cancel = (): void => {
      if (!this.#pending.has(id) || pending.cancelled) return;
      pending.cancelled = true;
      this.#stream?.write(encodeRequest({ $case: 'cancel', value: { id } }));
    };
    return { answer: promise, cancel };
  }

  /** Says which placement is used from now on. */
  useEpoch(epoch: number): void {
    this.#stream?.write(encodeRequest({ $case: 'epoch', value: BigInt(epoch) }));
  }

  [Symbol.dispose](): void {
    this.#closing.abort(this.#lost('it was given up'));
    this.#end(this.#lost('it was given up'));
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    let delays = backoff({ minMs: 20, maxMs: 500 });
    let told = '';
    while (!signal.aborted) {
      let error: ServiceError;
      try {
        await this.#connection(() => {
          delays = backoff({ minMs: 20, maxMs: 500 });
          told = '';
        });
        error = this.#lost('it ended the stream');
      } catch (thrown) {
        error = ServiceError.from(thrown);
      }
      if (signal.aborted) return;
      const was = this.open;
      this.#end(error.code === 'unavailable' ? error : this.#lost(error.message));
      if (was || error.message !== told) this.#o.onChange(this, error);
      told = error.message;
      await sleep(delays.next().value, signal).catch(() => undefined);
    }
  }

  /** One call, until it ends. Rejects with why, if it wasn't the shard that ended it. */
  async #connection(opened: () => void): Promise<void> {
    const { channels, shard, address, hello, onChange } = this.#o;
    const over = Promise.withResolvers<void>();
    const read = (bytes: Uint8Array): void => {
      const { reply, body } = readReply(bytes);
      if (reply?.$case === 'welcome') {
        clearTimeout(silent);
        if (reply.value.shardId !== shard) throw this.#lost(`it is shard ${reply.value.shardId.slice(0, 128)}`);
        this.#stream = stream;
        opened();
        onChange(this, undefined);
      } else if (reply?.$case === 'answer') {
        this.#answered(reply.value, body);
      } else if (reply?.$case === 'failure') {
        const { id, placement, ...wire } = reply.value;
        if (placement !== '') this.#o.onPlacement(placement);
        this.#settle(id)?.reject(ServiceError.fromWire(wire));
      }
    };
    const stream = channels.byteStream(DISPATCH_PATH, address, {
      onMessage: (bytes) => {
        try {
          read(bytes);
        } catch (error) {
          over.reject(error);
        }
      },
      onEnd: (error) => (error === undefined ? over.resolve() : over.reject(error)),
    });
    const silent = setTimeout(() => over.reject(this.#lost('it says nothing')), WELCOME_MS);
    const close = (): void => over.reject(this.#closing.signal.reason);
    this.#closing.signal.addEventListener('abort', close, { once: true });
    try {
      stream.write(encodeHello({ protocolVersion: PROTOCOL_VERSION, ...hello() }));
      await over.promise;
    } finally {
      clearTimeout(silent);
      this.#closing.signal.removeEventListener('abort', close);
      stream.cancel();
    }
  }

  #answered(value: { id: number; queueMs: number; computeMs: number }, body: Uint8Array): void {
    const pending = this.#settle(value.id);
    if (pending === undefined) return;
    const totalMs = performance.now() - pending.sentAt;
    this.latency.add(pending.pairs, totalMs);
    pending.resolve({ body, queueMs: value.queueMs, computeMs: value.computeMs, totalMs });
  }

  #settle(id: number): Pending | undefined {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    return pending;
  }

  #end(error: ServiceError): void {
    this.#stream = undefined;
    for (const pending of this.#pending.values()) pending.reject(error);
    this.#pending.clear();
  }

  #lost(why: string): ServiceError {
    return new ServiceError(`expert shard ${this.shard} at ${this.address}: ${why}`, {
      code: 'unavailable',
      reason: 'worker_lost',
      retry: 'other',
    });
  }
}
