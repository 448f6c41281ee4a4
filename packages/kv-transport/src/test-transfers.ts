/** Transfers between two test workers, and a proxy that cuts their connections. */
import { createServer, connect as dial, type Socket } from 'node:net';
import { eventually } from '@causeway/testkit';
import { expect } from 'vitest';
import { makeDescriptor, smoothKv, type TestWorker } from './test-workers.ts';
import type { InboundTransfer, OutboundTransfer } from './types.ts';

export const descriptor = makeDescriptor(
  Array.from({ length: 6 }, () => ({ kind: 'full' as const, kvHeads: 3, headDimK: 64, headDimV: 64 })),
  'bf16',
  64,
);
export const PAGE_TOKENS = 64;
export const never = new AbortController().signal;

export interface Pair extends AsyncDisposable {
  inbound: InboundTransfer;
  outbound: OutboundTransfer;
  equal(): boolean;
  release(): void;
}

/** Opens a transfer of `pages` full pages from one worker to another, with distinct contents in every page. */
export function begin(
  sender: TestWorker,
  receiver: TestWorker,
  pages: number,
  signal: { from?: AbortSignal; to?: AbortSignal } = {},
): Pair {
  const from = sender.pool.reserve(pages) ?? expect.fail('no pages to send');
  const to = receiver.pool.reserve(pages) ?? expect.fail('no pages to receive');
  for (const page of from.pages) smoothKv(sender.pool.bytes(page), 'bf16', 31 * page + 7);
  const tokens = pages * PAGE_TOKENS;
  const inbound = receiver.endpoint.receive({ pages: to, tokens, deadlineMs: 30_000, signal: signal.to ?? never });
  const outbound = sender.endpoint.send({ ticket: inbound.ticket, pages: from, signal: signal.from ?? never });
  const release = () => {
    from[Symbol.dispose]();
    to[Symbol.dispose]();
  };
  return {
    inbound,
    outbound,
    equal: () =>
      from.pages.every((page, i) => Buffer.compare(sender.pool.bytes(page), receiver.pool.bytes(to.pages[i] as number)) === 0),
    release,
    [Symbol.asyncDispose]: async () => {
      outbound.abort('end of test');
      inbound.cancel('end of test');
      await inbound.committed.catch(() => undefined);
      release();
      await eventually(
        () =>
          (sender.pool.freePages === sender.pool.totalPages && receiver.pool.freePages === receiver.pool.totalPages) || undefined,
        {
          what: 'all pages back',
        },
      );
      expect(sender.endpoint.open).toEqual({ inbound: 0, outbound: 0, creditBytes: 0 });
      expect(receiver.endpoint.open).toEqual({ inbound: 0, outbound: 0, creditBytes: 0 });
    },
  };
}

/** A TCP proxy whose connections can be cut. */
export async function startProxy(target: number): Promise<AsyncDisposable & { port: number; cut(): void }> {
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const upstream = dial(target, '127.0.0.1');
    for (const [a, b] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(a);
      a.pipe(b);
      a.on('error', () => b.destroy());
      a.on('close', () => {
        sockets.delete(a);
        b.destroy();
      });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const cut = () => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    port: (server.address() as { port: number }).port,
    cut,
    [Symbol.asyncDispose]: async () => {
      cut();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
