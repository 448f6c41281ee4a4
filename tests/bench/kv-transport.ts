/**
 * KV transport with codec `none` against raw `nats` publish/subscribe of equal parts, alternating in one run, each between two
 * processes on one nats-server. Raw: the publisher sends all parts, flushing every 16, and waits until the subscriber has counted them.
 *   node tests/bench/kv-transport.ts [--mib 256] [--repeats 7] [--codec none] [--name kv-transport]
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { DESCRIPTOR_VERSION, fingerprint, type KvCodec, type KvDescriptor, PagePool, pageBytes } from '@causeway/kv';
import { KvEndpoint, ticketFromProto, ticketToProto } from '@causeway/kv-transport';
import { kvV1 } from '@causeway/proto';
import { startNats } from '@causeway/testkit';
import { connect } from 'nats';
import { flag, showSpread, spread, writeReport } from './bench-report.ts';

const mib = Number(flag('mib', '256'));
const repeats = Number(flag('repeats', '7'));
const codec = flag('codec', 'none') as KvCodec;

const layers = Array.from({ length: 30 }, () => ({ kind: 'full', kvHeads: 3, headDimK: 64, headDimV: 64 }) as const);
const descriptor: KvDescriptor = {
  version: DESCRIPTOR_VERSION,
  layers,
  storage: { dtype: 'f32', layout: 'NHD', blockTokens: 16, shards: { count: 1, index: 0 } },
};
const print = fingerprint({ architecture: 'bench', weightsHash: 'bench', tokenizerHash: 'bench', rope: {}, layers });
const pages = Math.floor((mib * 1024 ** 2) / pageBytes(descriptor));
const rawBytes = pages * pageBytes(descriptor);
/** What the endpoint cuts a page into: equal parts below the server's max_payload of 1 MiB. */
const RAW_SUBJECT = 'bench.raw';

type Order = { kind: 'receive' } | { kind: 'count'; messages: number };

function newEndpoint(servers: string, id: string, pool: PagePool): Promise<KvEndpoint> {
  return KvEndpoint.connect({ servers, workerId: id, pool, fingerprint: print, chip: 'cpu', codec });
}

/** The receiving process: gives tickets, or counts raw messages. */
async function receiver(servers: string): Promise<void> {
  using pool = new PagePool({ descriptor, pageCount: pages });
  await using endpoint = await newEndpoint(servers, 'receiver', pool);
  const raw = await connect({ servers });
  let wanted = 0;
  let seen = 0;
  raw.subscribe(RAW_SUBJECT, {
    callback: () => {
      if (++seen === wanted) process.send?.({ kind: 'counted' });
    },
  });
  await raw.flush();
  process.on('message', (order: Order) => {
    if (order.kind === 'count') {
      wanted = order.messages;
      seen = 0;
      process.send?.({ kind: 'counting' });
      return;
    }
    const set = pool.reserve(pages);
    if (set === undefined) throw new Error('the receiver has no pages');
    const transfer = endpoint.receive({
      pages: set,
      tokens: pages * 16,
      deadlineMs: 120_000,
      signal: new AbortController().signal,
    });
    process.send?.({
      kind: 'ticket',
      ticket: Buffer.from(kvV1.Ticket.encode(ticketToProto(transfer.ticket)).finish()).toString('base64'),
    });
    transfer.committed.finally(() => set[Symbol.dispose]()).catch((error: unknown) => console.error(error));
  });
  process.send?.({ kind: 'up' });
  await once(process, 'disconnect');
  await raw.close();
}

async function reply<T>(child: ChildProcess, kind: string): Promise<T> {
  for (;;) {
    const [message] = (await once(child, 'message')) as [{ kind: string } & T];
    if (message.kind === kind) return message;
  }
}

async function main(): Promise<void> {
  await using nats = await startNats();
  const child = fork(import.meta.filename, [...process.argv.slice(2), '--receiver', nats.url]);
  await reply(child, 'up');
  using pool = new PagePool({ descriptor, pageCount: pages });
  const bytes = pool.buffer.bytes();
  for (let at = 0; at < bytes.length; at += 65_536)
    crypto.getRandomValues(bytes.subarray(at, Math.min(at + 65_536, bytes.length)));
  await using endpoint = await newEndpoint(nats.url, 'sender', pool);
  const raw = await connect({ servers: nats.url });

  const transport = async (): Promise<{ ms: number; parts: number }> => {
    const ticketed = reply<{ ticket: string }>(child, 'ticket');
    child.send({ kind: 'receive' } satisfies Order);
    const ticket = ticketFromProto(kvV1.Ticket.decode(Buffer.from((await ticketed).ticket, 'base64')));
    using set = pool.reserve(pages);
    if (set === undefined) throw new Error('the sender has no pages');
    set.startFilling();
    set.commit();
    const start = performance.now();
    const sent = await endpoint.send({ ticket, pages: set, signal: new AbortController().signal }).finish({});
    return { ms: performance.now() - start, parts: sent.frames };
  };
  const published = async (parts: number): Promise<number> => {
    const partBytes = Math.floor(rawBytes / parts);
    const counting = reply(child, 'counting');
    child.send({ kind: 'count', messages: parts } satisfies Order);
    await counting;
    const counted = reply(child, 'counted');
    const start = performance.now();
    for (let part = 0; part < parts; part++) {
      raw.publish(RAW_SUBJECT, bytes.subarray(part * partBytes, (part + 1) * partBytes));
      if (part % 16 === 15) await raw.flush();
    }
    await counted;
    return performance.now() - start;
  };

  const observations: { repeat: number; transportMs: number; rawMs: number; parts: number }[] = [];
  for (let repeat = -1; repeat < repeats; repeat++) {
    const { ms, parts } = await transport();
    const rawMs = await published(parts);
    if (repeat >= 0) observations.push({ repeat, transportMs: ms, rawMs, parts });
  }
  child.disconnect();
  await raw.close();
  const rate = (ms: number): number => rawBytes / 1e6 / (ms / 1000);
  const summary = {
    transportMBps: spread(observations.map((o) => rate(o.transportMs))),
    rawMBps: spread(observations.map((o) => rate(o.rawMs))),
    ratio: spread(observations.map((o) => o.rawMs / o.transportMs)),
  };
  console.log(
    `transport ${showSpread(summary.transportMBps, 0)} MB/s, raw nats ${showSpread(summary.rawMBps, 0)} MB/s, ratio ${showSpread(summary.ratio)}`,
  );
  writeReport(flag('name', 'kv-transport'), {
    command: `node tests/bench/kv-transport.ts ${process.argv.slice(2).join(' ')}`.trim(),
    peers: { 'raw nats': 'package nats 2.29.3, publish and subscribe of equal parts' },
    setting: { rawBytes, codec, partBytes: Math.floor(rawBytes / (observations[0]?.parts ?? 1)) },
    repeats: observations,
    summary,
  });
}

const servers = flag('receiver', '');
await (servers === '' ? main() : receiver(servers));
