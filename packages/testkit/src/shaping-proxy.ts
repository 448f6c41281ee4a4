/**
 * The thread of a shaped link: a TCP proxy that lets a fixed number of bytes a second through, each direction by itself, all connections
 * together. Connections take turns, so that small messages pass between large ones; what waits is bounded, and whoever sends more feels it.
 */
import { connect, createServer, type Socket } from 'node:net';
import { parentPort, workerData } from 'node:worker_threads';
import { TokenBucket } from './token-bucket.ts';
import { tieSockets } from './socket-pair.ts';

export interface ShapingData {
  /** Port of 127.0.0.1 that connections go on to. */
  target: number;
  /** Of each direction. */
  bytesPerMs: number;
}

/** Bytes that leave in one turn. */
const TURN_BYTES = 32 * 1024;
/** Bytes of one connection that may wait. */
const QUEUE_BYTES = 128 * 1024;

/** One direction of one connection. */
interface Flow {
  from: Socket;
  to: Socket;
  queue: Buffer[];
  queued: number;
  /** `to` has taken what it was given. */
  writable: boolean;
}

/** One direction of the link. */
class Direction {
  readonly #flows: Flow[] = [];
  #bucket: TokenBucket;
  #timer: NodeJS.Timeout | undefined;

  constructor(bytesPerMs: number) {
    this.#bucket = new TokenBucket(bytesPerMs, performance.now());
  }

  set rate(bytesPerMs: number) {
    this.#bucket = new TokenBucket(bytesPerMs, performance.now());
    this.#pump();
  }

  add(from: Socket, to: Socket): void {
    const flow: Flow = { from, to, queue: [], queued: 0, writable: true };
    this.#flows.push(flow);
    from.on('data', (chunk: Buffer) => {
      flow.queue.push(chunk);
      flow.queued += chunk.length;
      if (flow.queued >= QUEUE_BYTES) from.pause();
      this.#pump();
    });
    to.on('drain', () => {
      flow.writable = true;
      this.#pump();
    });
    from.on('close', () => {
      const at = this.#flows.indexOf(flow);
      if (at >= 0) this.#flows.splice(at, 1);
    });
  }

  #pump(): void {
    if (this.#timer !== undefined) return;
    for (;;) {
      const at = this.#flows.findIndex((flow) => flow.queue.length > 0 && flow.writable);
      if (at < 0) return;
      const wait = this.#bucket.waitMs(performance.now());
      if (wait > 0) {
        this.#timer = setTimeout(() => {
          this.#timer = undefined;
          this.#pump();
        }, wait);
        return;
      }
      const [flow] = this.#flows.splice(at, 1) as [Flow];
      this.#flows.push(flow);
      this.#turn(flow);
    }
  }

  #turn(flow: Flow): void {
    const first = flow.queue[0] as Buffer;
    const piece = first.subarray(0, TURN_BYTES);
    if (piece.length === first.length) flow.queue.shift();
    else flow.queue[0] = first.subarray(TURN_BYTES);
    flow.queued -= piece.length;
    this.#bucket.take(piece.length);
    flow.writable = flow.to.write(piece);
    if (flow.queued < QUEUE_BYTES / 2) flow.from.resume();
  }
}

const { target, bytesPerMs } = workerData as ShapingData;
const there = new Direction(bytesPerMs);
const back = new Direction(bytesPerMs);
const sockets = new Set<Socket>();

const server = createServer((client) => {
  const upstream = connect({ port: target, host: '127.0.0.1', noDelay: true });
  client.setNoDelay(true);
  tieSockets(client, upstream, sockets);
  there.add(client, upstream);
  back.add(upstream, client);
});
server.listen(0, '127.0.0.1', () => parentPort?.postMessage({ port: (server.address() as { port: number }).port }));

parentPort?.on('message', (message: { bytesPerMs: number }) => {
  there.rate = message.bytesPerMs;
  back.rate = message.bytesPerMs;
});
