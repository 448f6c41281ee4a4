/**
 * KV between every pair of chip families under every codec: GB/s, ratio, ms for 1,000 tokens, share of the time to the decode worker's
 * first step. Real KV of a real text. Sender and receiver are processes on one nats-server; nothing overlaps with prefill here.
 *   ./causeway bench transfer [--model DIR] [--tokens 256] [--repeats 3] [--name transfer]
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { basename } from 'node:path';
import { chipFamily, chipStorage } from '@causeway/chips';
import {
  BlockConverter,
  KV_CODECS,
  type KvCodec,
  type KvDescriptor,
  PageLayout,
  PagePool,
  pageBytes,
  type RoundedWire,
  storageName,
  wireDescriptor,
  wirePageBytes,
} from '@causeway/kv';
import { KvEndpoint } from '@causeway/kv-transport';
import { startNats } from '@causeway/testkit';
import { flag, showSpread, type Spread, spread, writeReport } from './bench-report.ts';
import { receiverPeer, type ReceiverPeer, serveReceiver } from './kv-receiver.ts';
import { type RealKv, realKv, SMOLLM2 } from './real-kv.ts';

const model = flag('model', SMOLLM2);
const tokens = Number(flag('tokens', '256'));
const repeats = Number(flag('repeats', '3'));
const F32 = { dtype: 'f32' } as const;
const never = new AbortController().signal;

/** What families store: heads before tokens and columns where they have them. webgpu stores what cpu does. */
const STORED = { cpu: {}, nvidia: { layout: 'HND', blockTokens: 64 }, ascend: { layout: 'NZ' }, cambricon: {} } as const;

/** The same numbers as another storage keeps them. */
function restored(kv: RealKv, descriptor: KvDescriptor): RealKv {
  const form = wireDescriptor(descriptor, F32);
  const blocks = Math.ceil(kv.tokens / descriptor.storage.blockTokens);
  const wires = Array.from({ length: blocks }, () => new Uint8Array(wirePageBytes(form)));
  const all = {
    kind: 'tokens',
    firstLayer: 0,
    layerCount: descriptor.layers.length,
    firstToken: 0,
    tokenCount: kv.tokens,
  } as const;
  const bytes = Buffer.concat(
    new PageLayout(kv.descriptor)
      .segments(all)
      .map(({ page, offset, length }) => (kv.pages[page] as Uint8Array).subarray(offset, offset + length)),
  );
  let at = 0;
  for (const { page, offset, length } of new PageLayout(form).segments(all)) {
    (wires[page] as Uint8Array).set(bytes.subarray(at, at + length), offset);
    at += length;
  }
  const converter = new BlockConverter(descriptor, F32);
  const pages = wires.map((wire) => {
    const page = new Uint8Array(pageBytes(descriptor));
    converter.fromWire(wire, page);
    return page;
  });
  return { ...kv, descriptor, pages };
}

interface Observation {
  from: string;
  to: string;
  wire: string;
  lossless: boolean;
  codec: KvCodec;
  repeat: number;
  ms: number;
  /** Processor time of the two processes. */
  senderCpuMs: number;
  receiverCpuMs: number;
  /** Thread time at the sender. */
  convertMs: number;
  rawBytes: number;
  sentBytes: number;
}

interface Arm {
  chip: string;
  codec: KvCodec;
  rounded: RoundedWire | undefined;
}

/** Every receiver gets the KV of a family under one codec, so often. */
async function arm(
  { chip, codec, rounded }: Arm,
  kv: RealKv,
  servers: string,
  receivers: ReadonlyMap<string, ReceiverPeer>,
): Promise<Observation[]> {
  using pool = new PagePool({ descriptor: kv.descriptor, pageCount: kv.pages.length });
  using set = pool.reserve(kv.pages.length) ?? failed();
  for (const [i, page] of set.pages.entries()) pool.bytes(page).set(kv.pages[i] as Uint8Array);
  set.startFilling();
  set.commit();
  const options = { servers, workerId: 'sender', pool, fingerprint: kv.fingerprint, chip, codec, lossy: true, rounded };
  await using endpoint = await KvEndpoint.connect(options);
  const seen: Observation[] = [];
  for (let repeat = -1; repeat < repeats; repeat++) {
    for (const [to, receiver] of receivers) {
      const { ticket, cpuMs } = await receiver.ticket(kv.tokens);
      const before = process.cpuUsage();
      const start = performance.now();
      const { representation, convertMs, rawBytes, sentBytes } = await endpoint
        .send({ ticket, pages: set, signal: never })
        .finish({});
      const ms = performance.now() - start;
      const { user, system } = process.cpuUsage(before);
      const cpu = { senderCpuMs: (user + system) / 1000, receiverCpuMs: await cpuMs };
      const { wire, lossless } = representation;
      if (repeat >= 0) seen.push({ from: chip, to, wire, lossless, codec, repeat, ms, ...cpu, convertMs, rawBytes, sentBytes });
    }
  }
  return seen;
}

function failed(): never {
  throw new Error('no pages');
}

/** A pair of families under a codec. */
export interface TransferRow {
  from: string;
  to: string;
  wire: string;
  lossless: boolean;
  codec: KvCodec;
  /** Raw bytes over bytes of frames. */
  ratio: number;
  /** Of raw bytes. */
  gigabytesPerSecond: Spread;
  msPer1000: Spread;
  /** Processor ms for 1,000 tokens. */
  senderCpuPer1000: Spread;
  receiverCpuPer1000: Spread;
  /** Of prefill and transfer, one after the other. */
  shareOfTtft: Spread;
}

function summarise(all: readonly Observation[], prefillMs: number): TransferRow[] {
  const groups = Map.groupBy(all, ({ from, to, wire, codec }) => [from, to, wire, codec].join());
  return [...groups.values()].map((own): TransferRow => {
    const { from, to, wire, lossless, codec, rawBytes, sentBytes } = own[0] as Observation;
    return {
      from,
      to,
      wire,
      lossless,
      codec,
      ratio: rawBytes / sentBytes,
      gigabytesPerSecond: spread(own.map(({ ms }) => rawBytes / ms / 1e6)),
      msPer1000: spread(own.map(({ ms }) => (1000 * ms) / tokens)),
      senderCpuPer1000: spread(own.map(({ senderCpuMs }) => (1000 * senderCpuMs) / tokens)),
      receiverCpuPer1000: spread(own.map(({ receiverCpuMs }) => (1000 * receiverCpuMs) / tokens)),
      shareOfTtft: spread(own.map(({ ms }) => ms / (ms + prefillMs))),
    };
  });
}

async function main(): Promise<void> {
  const plain = await realKv(model, tokens, { CAUSEWAY_KV_DTYPE: 'f32' });
  const kvs = new Map(
    Object.entries(STORED).map(([chip, own]) => {
      const storage = chipStorage(chipFamily(chip), { dtype: chip === 'cpu' ? 'f32' : 'bf16', ...own });
      return [chip, restored(plain, { ...plain.descriptor, storage })];
    }),
  );
  await using nats = await startNats();
  const children: ChildProcess[] = [];
  const observations: Observation[] = [];
  try {
    const receivers = new Map<string, ReceiverPeer>();
    for (const [chip, kv] of kvs) {
      const child = fork(import.meta.filename, [...process.argv.slice(2), '--receiver', nats.url]);
      children.push(child);
      receivers.set(chip, await receiverPeer(child, kv, true));
    }
    for (const [chip, kv] of kvs) {
      for (const codec of KV_CODECS)
        observations.push(...(await arm({ chip, codec, rounded: undefined }, kv, nats.url, receivers)));
    }
    const ascend = new Map([...receivers].filter(([chip]) => chip === 'ascend'));
    for (const rounded of ['int8', 'int4'] as const) {
      for (const codec of KV_CODECS) {
        const kv = kvs.get('nvidia') ?? failed();
        observations.push(...(await arm({ chip: 'nvidia', codec, rounded }, kv, nats.url, ascend)));
      }
    }
  } finally {
    for (const child of children) {
      child.disconnect();
      await once(child, 'exit');
    }
  }
  const summary = summarise(observations, plain.prefillMs);
  for (const row of summary) {
    const speed = `${showSpread(row.gigabytesPerSecond)} GB/s, ${showSpread(row.msPer1000, 0)} ms per 1,000 tokens`;
    console.log(`${row.from} to ${row.to} as ${row.wire}, ${row.codec}: ratio ${row.ratio.toFixed(2)}, ${speed}`);
  }
  writeReport(flag('name', 'transfer'), {
    command: `./causeway bench transfer --tokens ${tokens} --repeats ${repeats}`,
    peers: {},
    setting: {
      model: basename(model),
      tokens,
      prefillMs: plain.prefillMs,
      storages: Object.fromEntries([...kvs].map(([chip, { descriptor }]) => [chip, storageName(descriptor.storage)])),
    },
    repeats: observations,
    summary,
  });
}

const servers = flag('receiver', '');
await (servers === '' ? main() : serveReceiver(servers));
