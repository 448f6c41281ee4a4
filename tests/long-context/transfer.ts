/**
 * One transfer of a very long prompt's KV between two processes with an endpoint each, on a nats-server that is killed and started
 * again in the middle. What the processes need beyond their pages is what is measured: pages are few, and folded (deepseek-v4.ts).
 */
import { type ChildProcess, fork } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { fingerprint, type KvObject, PagePool } from '@causeway/kv';
import { KvEndpoint, type OutboundTransfer, ticketFromProto, ticketToProto } from '@causeway/kv-transport';
import { kvV1 } from '@causeway/proto';
import { startNats } from '@causeway/testkit';
import { DEEPSEEK_V4, FoldedPlaces } from './deepseek-v4.ts';

const PAGES = 24;
/** The sender offers this many tokens at a time, as a prefill worker does chunk after chunk. */
const CHUNK_TOKENS = 8_192;

/** What was seen of one transfer. */
export interface LongTransfer {
  tokens: number;
  rawBytes: number;
  /** Frame bytes published, repeats included. */
  sentBytes: number;
  parts: number;
  resentParts: number;
  seconds: number;
  /** Resident memory at its highest during the transfer, above that of the idle process with its pages written, bytes. */
  senderAboveIdle: number;
  receiverAboveIdle: number;
  senderIdle: number;
  receiverIdle: number;
  /** How often each end lost a connection: one of bulk and control each, for one restart. */
  senderDisconnections: number;
  receiverDisconnections: number;
  /** Raw bytes in place when the server was killed. */
  killedAt: number;
  /** Receiver's pages are the sender's, byte by byte. */
  equal: boolean;
}

type Role = 'sender' | 'receiver';
type Message =
  | { kind: 'idle' }
  | { kind: 'ticket'; ticket: string }
  | { kind: 'progress'; bytes: number }
  | {
      kind: 'done';
      idle: number;
      peak: number;
      disconnections: number;
      pages: string;
      sentBytes?: number;
      frames?: number;
      resentParts?: number;
    };

/** @throws when either process fails, or the transfer does */
export async function transferLongContext(tokens: number): Promise<LongTransfer> {
  await using nats = await startNats();
  const processes: Record<Role, ChildProcess> = {
    sender: start('sender', nats.url, tokens),
    receiver: start('receiver', nats.url, tokens),
  };
  const { sender, receiver } = processes;
  try {
    await Promise.all([reply(sender, 'idle'), reply(receiver, 'idle')]);
    const ticketed = reply(receiver, 'ticket');
    receiver.send({ kind: 'receive' });
    const { ticket } = await ticketed;
    const rawBytes = totalBytes(ticket);
    const began = performance.now();
    const done = Promise.all([reply(sender, 'done'), reply(receiver, 'done')]);
    done.catch(() => undefined);
    sender.send({ kind: 'send', ticket });
    let killedAt = 0;
    while (killedAt < rawBytes / 2) killedAt = (await Promise.race([reply(receiver, 'progress'), done.then(failEarly)])).bytes;
    await nats.signal('KILL');
    await nats.start();
    const [sent, received] = await done;
    return {
      tokens,
      rawBytes,
      sentBytes: sent.sentBytes ?? 0,
      parts: (sent.frames ?? 0) - (sent.resentParts ?? 0),
      resentParts: sent.resentParts ?? 0,
      seconds: (performance.now() - began) / 1000,
      senderAboveIdle: sent.peak - sent.idle,
      receiverAboveIdle: received.peak - received.idle,
      senderIdle: sent.idle,
      receiverIdle: received.idle,
      senderDisconnections: sent.disconnections,
      receiverDisconnections: received.disconnections,
      killedAt,
      equal: sent.pages === received.pages,
    };
  } finally {
    for (const child of [sender, receiver]) child.kill('SIGKILL');
  }
}

function failEarly(): never {
  throw new Error('the transfer was over before the server could be killed in the middle');
}

function totalBytes(ticket: string): number {
  const { objects } = ticketFromProto(kvV1.Ticket.decode(Buffer.from(ticket, 'base64')));
  return objects.reduce((sum, object) => sum + (new FoldedPlaces(PAGES).segments(object)[0]?.length ?? 0), 0);
}

function start(role: Role, servers: string, tokens: number): ChildProcess {
  return fork(import.meta.filename, [role, servers, String(tokens)], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
}

/** The next message of this kind. */
function reply<K extends Message['kind']>(child: ChildProcess, kind: K): Promise<Extract<Message, { kind: K }>> {
  return new Promise((resolve, reject) => {
    const take = (message: Message) => {
      if (message.kind !== kind) return;
      settle();
      resolve(message as Extract<Message, { kind: K }>);
    };
    const gone = (code: number | null, signal: string | null) => {
      settle();
      reject(new Error(`a process of the transfer ended with ${code ?? signal} before it said ${kind}`));
    };
    const settle = () => child.off('message', take).off('exit', gone);
    child.on('message', take).on('exit', gone);
  });
}

/** Resident bytes now, or the highest since `resetPeak`. */
function resident(field: 'VmRSS' | 'VmHWM'): number {
  const line = readFileSync('/proc/self/status', 'utf8').match(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm'));
  return Number(line?.[1]) * 1024;
}

function resetPeak(): void {
  writeFileSync('/proc/self/clear_refs', '5');
}

async function run(role: Role, servers: string, tokens: number): Promise<void> {
  const say = (message: Message) => process.send?.(message);
  const pool = new PagePool({ descriptor: DEEPSEEK_V4, pageCount: PAGES });
  const memory = pool.buffer.bytes();
  if (role === 'receiver') memory.fill(0xa5);
  else {
    let state = 1;
    const words = new Uint32Array(memory.buffer, memory.byteOffset, memory.length / 4);
    for (let i = 0; i < words.length; i++) words[i] = state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
  }
  const print = fingerprint({
    architecture: 'deepseek_v4',
    weightsHash: 'synthetic',
    tokenizerHash: 'synthetic',
    rope: {},
    layers: DEEPSEEK_V4.layers,
  });
  let disconnections = 0;
  const endpoint = await KvEndpoint.connect({
    servers,
    workerId: role,
    pool,
    places: new FoldedPlaces(PAGES),
    fingerprint: print,
    chip: 'cpu',
    codec: 'none',
    log: {
      info: () => undefined,
      warn: (_, message) => {
        if (message === 'the NATS connection is down') disconnections++;
      },
    },
  });
  const pages = pool.reserve(PAGES);
  if (pages === undefined) throw new Error('no pages');
  const { signal } = new AbortController();
  const idle = resident('VmRSS');
  resetPeak();
  say({ kind: 'idle' });

  const [order] = (await once(process, 'message')) as [{ kind: string; ticket?: string }];
  const hash = (objects: readonly KvObject[]) =>
    createHash('sha256').update(new FoldedPlaces(PAGES).objectBytes(memory, objects)).digest('hex');
  if (role === 'receiver') {
    const inbound = endpoint.receive({ pages, tokens, deadlineMs: 7_200_000, signal });
    const ticket = Buffer.from(kvV1.Ticket.encode(ticketToProto(inbound.ticket)).finish()).toString('base64');
    say({ kind: 'ticket', ticket });
    const timer = setInterval(() => say({ kind: 'progress', bytes: endpoint.counters.rawBytesReceived }), 20);
    await inbound.committed;
    clearInterval(timer);
    say({ kind: 'done', idle, peak: resident('VmHWM'), disconnections, pages: hash(inbound.ticket.objects) });
  } else {
    const ticket = ticketFromProto(kvV1.Ticket.decode(Buffer.from(order.ticket ?? '', 'base64')));
    pages.startFilling();
    pages.commit();
    const outbound: OutboundTransfer = endpoint.send({ ticket, pages, signal });
    for (let end = CHUNK_TOKENS; end < tokens; end += CHUNK_TOKENS) outbound.offer(end);
    const { sentBytes, frames, resentParts } = await outbound.finish({});
    say({
      kind: 'done',
      idle,
      peak: resident('VmHWM'),
      disconnections,
      pages: hash(ticket.objects),
      sentBytes,
      frames,
      resentParts,
    });
  }
  await once(process, 'disconnect');
}

const [role, servers, tokens] = process.argv.slice(2);
if (process.send !== undefined && (role === 'sender' || role === 'receiver') && servers !== undefined) {
  await run(role, servers, Number(tokens));
}
