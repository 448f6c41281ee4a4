import { ServiceError } from '@causeway/errors';
import type { AsyncQueue } from '@causeway/lifecycle';
import type { WorkerRecord } from '@causeway/registry';
import type { ByteStream, ChannelPool, RpcCallOptions } from '@causeway/rpc';
import type { AttemptEvent } from './events.ts';

export interface WorkerStreamOptions<Event extends AttemptEvent> {
  readonly channels: ChannelPool;
  readonly worker: WorkerRecord;
  /** `/package.Service/Method`. */
  readonly path: string;
  readonly call: RpcCallOptions;
  /** Where the events go. */
  readonly queue: AsyncQueue<AttemptEvent>;
  /** @throws ServiceError when the worker says nothing that this router knows */
  readonly read: (message: Uint8Array) => Event;
  /** Called for each event before it is queued. True: it is the worker's last word. */
  readonly onEvent: (event: Event) => boolean;
  readonly failed: 'decode_failed' | 'prefill_failed';
}

/**
 * The call to one worker of an attempt, read into the attempt's queue as fast as events are taken from there; its failure is the last
 * of them. Messages go from the connection to the queue without a promise of their own: a router's cost is that of tokens.
 */
export class WorkerStream<Event extends AttemptEvent> {
  readonly #o: WorkerStreamOptions<Event>;
  readonly #stream: ByteStream;
  /** Events that found the queue full, in order; the stream is paused meanwhile. */
  readonly #waiting: AttemptEvent[] = [];
  #finished = false;

  /** Opens the call. */
  constructor(options: WorkerStreamOptions<Event>) {
    this.#o = options;
    const { channels, worker, path, call } = options;
    const handlers = {
      onMessage: (bytes: Uint8Array) => this.#take(bytes),
      onEnd: (error: Error | undefined) => {
        if (error !== undefined) this.#fail(error);
        else if (!this.#finished) this.#fail(endedEarly(worker));
      },
    };
    this.#stream = channels.byteStream(path, worker.address, handlers, call);
  }

  /** Sends an encoded message, unless the worker has said its last word. */
  send(message: Uint8Array): void {
    this.#stream.write(message);
  }

  /** Nothing more will be sent. */
  end(): void {
    this.#stream.end();
  }

  /** Ends the call at once; no event of it is queued any more. */
  cancel(): void {
    this.#waiting.length = 0;
    this.#stream.cancel();
  }

  #take(bytes: Uint8Array): void {
    try {
      const event = this.#o.read(bytes);
      if (this.#o.onEvent(event)) this.#finished = true;
      // A worker with several choices says its last word only then: none of their stops can come too late. (A message to a stream that has
      // ended would keep the HTTP/2 stream open for ever.)
      if (this.#finished) this.#stream.end();
      this.#give(event);
    } catch (error) {
      this.#stream.cancel();
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    this.#give({ kind: this.#o.failed, error: ServiceError.from(error) });
  }

  #give(event: AttemptEvent): void {
    const { queue } = this.#o;
    if (this.#waiting.length === 0 && queue.tryPush(event)) return;
    if (queue.closed) return;
    this.#waiting.push(event);
    if (this.#waiting.length === 1) void this.#drain();
  }

  async #drain(): Promise<void> {
    this.#stream.pause();
    for (let event = this.#waiting[0]; event !== undefined; event = this.#waiting[0]) {
      if (!(await this.#o.queue.push(event))) return;
      this.#waiting.shift();
    }
    this.#stream.resume();
  }
}

function endedEarly(worker: WorkerRecord): ServiceError {
  return new ServiceError(`worker ${worker.id} ended its stream early`, {
    code: 'unavailable',
    reason: 'worker_lost',
    retry: 'other',
  });
}
