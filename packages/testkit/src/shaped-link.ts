/** A link of fixed bandwidth to a server of this machine: a TCP proxy with token buckets, in a thread of its own. */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { ShapingData } from './shaping-proxy.ts';

export interface ShapedLink extends AsyncDisposable {
  /** Port of 127.0.0.1 to connect to instead of the server's. */
  readonly port: number;
  /** Changes the bandwidth of both directions, from now on. */
  setRate(bitsPerSecond: number): void;
}

/**
 * Opens the link to `target`, a port of 127.0.0.1. Each direction carries `bitsPerSecond`, all connections together. It adds no latency
 * but that of queues of 128 KiB, and of the sockets' buffers. What a machine can't carry it doesn't carry either: at many Gbit/s the
 * thread itself is the limit.
 */
export async function startShapedLink(options: { target: number; bitsPerSecond: number }): Promise<ShapedLink> {
  const bytesPerMs = (bitsPerSecond: number): number => bitsPerSecond / 8000;
  const workerData: ShapingData = { target: options.target, bytesPerMs: bytesPerMs(options.bitsPerSecond) };
  const worker = new Worker(new URL('./shaping-proxy.ts', import.meta.url), { workerData, name: 'shaped-link', execArgv: [] });
  const [{ port }] = (await once(worker, 'message')) as [{ port: number }];
  return {
    port,
    setRate: (bitsPerSecond) => worker.postMessage({ bytesPerMs: bytesPerMs(bitsPerSecond) }),
    [Symbol.asyncDispose]: async () => void (await worker.terminate()),
  };
}
