/** What the scheduler may let happen next, for fast-check: each command is one step. */
import { crc32c } from '@node-rs/crc32';
import fc from 'fast-check';
import { vi } from 'vitest';
import { readFrameHeader } from '../frame.ts';
import { frameSubject } from '../subjects.ts';
import { BLOCK_TOKENS, type ClusterModel, type Receiving, type Worker } from './cluster-model.ts';
import type { UnderWay } from './simulated-network.ts';

/** Does something, or finds that there is nothing to do. `a` and `b` choose among what there is. */
type Step = (cluster: ClusterModel, a: number, b: number) => boolean | Promise<boolean>;

/** Frames that were once delivered, newest last: they may come again under another transfer's name. */
const REMEMBERED = 32;
const remembered = new WeakMap<ClusterModel, UnderWay[]>();

const EPOCH_OFFSET = 24;
const TRANSFER_OFFSET = 8;
const CRC_OFFSET = 60;

const pick = <T>(list: readonly T[], index: number): T | undefined => list[index % Math.max(1, list.length)];

const steps: Record<string, Step> = {
  reserve: (cluster, a, b) => {
    const worker = pick(cluster.of('decode'), a) as Worker;
    const pageCount = 1 + (b % 3);
    const pages = worker.endpoint.connected ? worker.ledger.reserve(pageCount + 1) : undefined;
    if (pages === undefined) return false;
    cluster.receive(worker, pages, pageCount, b % 7 === 0 ? 1_500 : 60_000);
    return true;
  },
  send: (cluster, a, b) => {
    const waiting = cluster.receiving.filter(({ outcome, sending }) => outcome === 'open' && sending === undefined);
    const receiving = pick(waiting, a);
    if (receiving === undefined) return false;
    cluster.send(pick(cluster.of('prefill'), b) as Worker, receiving);
    return receiving.sending !== undefined;
  },
  compute: (cluster, a) => {
    const sending = pick(open(cluster), a);
    if (sending === undefined || sending.computed >= sending.pages.own.length) return false;
    sending.worker.ledger.compute(sending.pages, ++sending.computed);
    sending.outbound.offer(sending.computed * BLOCK_TOKENS);
    return true;
  },
  finish: (cluster, a) => {
    const sending = pick(
      open(cluster).filter(({ finishing }) => !finishing),
      a,
    );
    if (sending !== undefined) cluster.finish(sending);
    return sending !== undefined;
  },
  abort: (cluster, a) => {
    const sending = pick(open(cluster), a);
    sending?.outbound.abort('as the scheduler says');
    return sending !== undefined;
  },
  // a prefill worker lets go of its pages whenever its call ends
  'release sent': (cluster, a) => {
    const sending = pick(
      cluster.sending.filter(({ outcome }) => outcome !== 'open'),
      a,
    );
    if (sending === undefined) return false;
    sending.pages.set[Symbol.dispose]();
    cluster.sending.splice(cluster.sending.indexOf(sending), 1);
    return true;
  },
  // a decode worker lets go at once, whatever still runs
  cancel: (cluster, a) => {
    const receiving = pick(
      cluster.receiving.filter(({ outcome }) => outcome === 'open'),
      a,
    );
    if (receiving === undefined) return false;
    receiving.inbound.cancel('as the scheduler says');
    release(cluster, receiving);
    return true;
  },
  'cancel and wait': (cluster, a) => {
    const receiving = pick(
      cluster.receiving.filter(({ outcome }) => outcome === 'open'),
      a,
    );
    receiving?.inbound.cancel('as the scheduler says');
    return receiving !== undefined;
  },
  // once a transfer has failed for good, its pages may be given to another sender
  reassign: (cluster, a, b) => {
    const receiving = pick(
      cluster.receiving.filter(({ outcome }) => outcome === 'failed'),
      a,
    );
    if (receiving === undefined || !receiving.worker.endpoint.connected) return false;
    cluster.receiving.splice(cluster.receiving.indexOf(receiving), 1);
    const { worker, pages, tokens } = receiving;
    cluster.receive(worker, pages, Math.max(1, tokens / BLOCK_TOKENS - (b % 2)), 60_000);
    cluster.count('reassigned');
    return true;
  },
  own: (cluster, a) => {
    const receiving = pick(
      cluster.receiving.filter(({ pages }) => pages.set.state === 'committed'),
      a,
    );
    receiving?.pages.set.own();
    return receiving !== undefined;
  },
  grow: (cluster, a) => {
    const receiving = pick(owned(cluster), a);
    if (receiving === undefined || !receiving.pages.set.extend(1)) return false;
    receiving.worker.ledger.grown(receiving.pages);
    return true;
  },
  fork: (cluster, a) => {
    const receiving = pick(owned(cluster), a);
    const shared = (receiving?.tokens ?? 0) / BLOCK_TOKENS;
    if (receiving === undefined || receiving.pages.own.length <= shared) return false;
    cluster.forks.push(receiving.worker.ledger.fork(receiving.pages, shared));
    cluster.count('forked');
    return true;
  },
  'release fork': (cluster, a) => {
    const fork = pick(cluster.forks, a);
    if (fork === undefined) return false;
    fork.set[Symbol.dispose]();
    cluster.forks.splice(cluster.forks.indexOf(fork), 1);
    return true;
  },
  'release received': (cluster, a) => {
    const receiving = pick(
      cluster.receiving.filter(({ outcome }) => outcome !== 'open'),
      a,
    );
    if (receiving !== undefined) release(cluster, receiving);
    return receiving !== undefined;
  },
  take: ({ network }, a, b) => {
    const link = pick(
      [...network.links].filter(({ outbox }) => outbox.length > 0),
      a,
    );
    if (link === undefined) return false;
    for (let more = b % 8; network.take(link) && more > 0; more--);
    return true;
  },
  deliver: (cluster, a) => deliver(cluster, a, true),
  // in order, as NATS does
  'deliver several': (cluster, a) => {
    if (!deliver(cluster, 0, true)) return false;
    for (let more = a % 8; deliver(cluster, 0, true) && more > 0; more--);
    return true;
  },
  duplicate: (cluster, a) => deliver(cluster, a, false),
  lose: ({ network }, a) => network.underWay.splice(a % Math.max(1, network.underWay.length), 1).length > 0,
  'run job': (cluster, a, b) => {
    const codecs = pick(
      cluster.codecs.filter(({ waiting }) => waiting.length > 0),
      a,
    );
    return codecs !== undefined && codecs.run(b % codecs.waiting.length);
  },
  flush: ({ network }, a) =>
    pick(
      [...network.links].filter(({ flushes }) => flushes.length > 0),
      a,
    )?.completeFlushes() ?? false,
  'forge stale frame': forgeStale,
  wait: (_, a) => {
    vi.advanceTimersByTime(20 + (a % 400));
    return true;
  },
  'wait long': (_, a, b) => {
    if (b % 4 !== 0) return false;
    vi.advanceTimersByTime(1_000 + (a % 6_000));
    return true;
  },
  disconnect: ({ network }, a) => {
    const link = pick(
      [...network.links].filter(({ up }) => up),
      a,
    );
    link?.disconnect();
    return link !== undefined;
  },
  reconnect: ({ network }, a) => {
    const link = pick(
      [...network.links].filter(({ up }) => !up),
      a,
    );
    link?.reconnect();
    return link !== undefined;
  },
  crash: async (cluster, a, b) => {
    if (b % 4 !== 0) return false;
    await cluster.crash(pick(cluster.workers, a) as Worker);
    return true;
  },
};

/** How often each is drawn. */
const WEIGHTS: Record<string, number> = {
  reserve: 10,
  send: 14,
  compute: 20,
  finish: 12,
  take: 60,
  deliver: 30,
  'deliver several': 40,
  'run job': 30,
  flush: 10,
  wait: 3,
  own: 10,
  grow: 5,
  fork: 5,
  'release fork': 4,
  'release sent': 6,
  'release received': 4,
  'forge stale frame': 8,
  duplicate: 8,
  lose: 2,
  cancel: 2,
  reassign: 5,
  reconnect: 8,
};

function open({ sending }: ClusterModel): ClusterModel['sending'] {
  return sending.filter(({ outcome }) => outcome === 'open');
}

function owned({ receiving }: ClusterModel): Receiving[] {
  return receiving.filter(({ pages }) => pages.set.state === 'owned');
}

function release(cluster: ClusterModel, receiving: Receiving): void {
  receiving.pages.set[Symbol.dispose]();
  cluster.receiving.splice(cluster.receiving.indexOf(receiving), 1);
}

function deliver(cluster: ClusterModel, index: number, last: boolean): boolean {
  const { network } = cluster;
  const message = pick(network.underWay, index);
  if (message === undefined) return false;
  if (last) network.underWay.splice(network.underWay.indexOf(message), 1);
  if (message.subject.includes('.kv.')) {
    const seen = remembered.get(cluster) ?? [];
    seen.push(message);
    if (seen.length > REMEMBERED) seen.shift();
    remembered.set(cluster, seen);
  }
  network.deliver(message);
  return true;
}

/** A frame of an earlier epoch comes in under the name of a transfer that is open now. */
function forgeStale(cluster: ClusterModel, a: number, b: number): boolean {
  const receiving = pick(
    cluster.receiving.filter(({ outcome }) => outcome === 'open'),
    a,
  );
  if (receiving === undefined) return false;
  const { ticket } = receiving.inbound;
  const address = frameSubject(ticket, '').slice(0, -1);
  const stale = (remembered.get(cluster) ?? []).filter(({ subject, data }) => {
    return subject.startsWith(address) && readEpoch(data) !== ticket.epoch;
  });
  const source = pick(stale, b);
  if (source === undefined) return false;
  const data = Buffer.from(source.data);
  data.write(ticket.transferId, TRANSFER_OFFSET, 'hex');
  // an endpoint that ignored epochs would see no difference
  if (cluster.mutation === 'epochs ignored') data.writeUInt32LE(ticket.epoch, EPOCH_OFFSET);
  data.writeUInt32LE(crc32c(data.subarray(0, CRC_OFFSET)), CRC_OFFSET);
  cluster.network.deliver({ subject: frameSubject(ticket, ticket.transferId), data });
  cluster.count('forged');
  return true;
}

function readEpoch(frame: Uint8Array): number {
  try {
    return readFrameHeader(frame).epoch;
  } catch {
    // a slot that was used again after its transfer's end
    return -1;
  }
}

class Command implements fc.AsyncCommand<object, ClusterModel> {
  readonly #name: string;
  readonly #a: number;
  readonly #b: number;

  constructor(name: string, a: number, b: number) {
    this.#name = name;
    this.#a = a;
    this.#b = b;
  }

  check(): boolean {
    return true;
  }

  async run(_: object, cluster: ClusterModel): Promise<void> {
    if (!(await steps[this.#name]?.(cluster, this.#a, this.#b))) return;
    cluster.count('steps');
    cluster.count(this.#name);
    await cluster.settle();
    cluster.check();
  }

  toString(): string {
    return `${this.#name}(${this.#a}, ${this.#b})`;
  }
}

/** Names of all commands. */
export const COMMANDS = Object.keys(steps);

/** Sequences of commands, of up to `length`. */
export function commands(length: number): fc.Arbitrary<Iterable<fc.AsyncCommand<object, ClusterModel>>> {
  const choices = COMMANDS.flatMap((name) => {
    const command = fc.tuple(fc.nat({ max: 0xffff }), fc.nat({ max: 0xffff })).map(([a, b]) => new Command(name, a, b));
    return Array.from({ length: WEIGHTS[name] ?? 1 }, () => command);
  });
  return fc.commands(choices, { maxCommands: length, size: 'max', disableReplayLog: true });
}
