/** A process that receives KV, for benchmarks: its parent asks it for tickets and sends. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { type Fingerprint, type KvDescriptor, PagePool } from '@causeway/kv';
import { KvEndpoint, ticketFromProto, ticketToProto, type Ticket } from '@causeway/kv-transport';
import { kvV1 } from '@causeway/proto';

interface Start {
  kind: 'start';
  descriptor: KvDescriptor;
  fingerprint: Fingerprint;
  pages: number;
  lossy: boolean;
}

type Order = Start | { kind: 'receive'; tokens: number };

const DEADLINE_MS = 120_000;

/** The receiving process: makes its endpoint as it is told, then gives a ticket for each order. Ends with its parent. */
export async function serveReceiver(servers: string): Promise<void> {
  process.send?.({ kind: 'up' });
  const [start] = (await once(process, 'message')) as [Start];
  const { descriptor, fingerprint, pages, lossy } = start;
  using pool = new PagePool({ descriptor, pageCount: pages });
  const options = { servers, workerId: 'receiver', pool, fingerprint, chip: 'cpu', codec: 'auto', lossy } as const;
  await using endpoint = await KvEndpoint.connect(options);
  process.on('message', (order: Order) => {
    if (order.kind !== 'receive') return;
    const set = pool.reserve(pages);
    if (set === undefined) throw new Error('the receiver has no pages');
    const { signal } = new AbortController();
    const before = process.cpuUsage();
    const transfer = endpoint.receive({ pages: set, tokens: order.tokens, deadlineMs: DEADLINE_MS, signal });
    const ticket = Buffer.from(kvV1.Ticket.encode(ticketToProto(transfer.ticket)).finish()).toString('base64');
    process.send?.({ kind: 'ticket', ticket });
    transfer.committed
      .then(() => {
        const { user, system } = process.cpuUsage(before);
        process.send?.({ kind: 'committed', cpuMs: (user + system) / 1000 });
      })
      .catch((error: unknown) => console.error(error))
      .finally(() => set[Symbol.dispose]());
  });
  process.send?.({ kind: 'ready' });
  await once(process, 'disconnect');
}

export interface ReceiverPeer {
  /** A ticket for so many tokens; what was received before is gone. `cpuMs`: processor time from then to the commit. */
  ticket(tokens: number): Promise<{ ticket: Ticket; cpuMs: Promise<number> }>;
}

/** Tells the child what it stores, and waits until it takes orders. */
export async function receiverPeer(
  child: ChildProcess,
  kv: { descriptor: KvDescriptor; fingerprint: Fingerprint; tokens: number },
  lossy = false,
): Promise<ReceiverPeer> {
  const { descriptor, fingerprint, tokens } = kv;
  await answer(child, 'up');
  const ready = answer(child, 'ready');
  const pages = Math.ceil(tokens / descriptor.storage.blockTokens);
  child.send({ kind: 'start', descriptor, fingerprint, pages, lossy } satisfies Start);
  await ready;
  return {
    ticket: async (wanted) => {
      const ticketed = answer<{ ticket: string }>(child, 'ticket');
      child.send({ kind: 'receive', tokens: wanted } satisfies Order);
      const committed = answer<{ cpuMs: number }>(child, 'committed');
      const ticket = ticketFromProto(kvV1.Ticket.decode(Buffer.from((await ticketed).ticket, 'base64')));
      return { ticket, cpuMs: committed.then(({ cpuMs }) => cpuMs) };
    },
  };
}

async function answer<T>(child: ChildProcess, kind: string): Promise<T> {
  for (;;) {
    const [message] = (await once(child, 'message')) as [{ kind: string } & T];
    if (message.kind === kind) return message;
  }
}
