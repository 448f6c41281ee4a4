/**
 * The codec policy on links of several bandwidths: time to commit of KV that a policy with measurements of this link sends, against each
 * fixed codec, arms taking turns. Sender and receiver are processes on one nats-server; the sender reaches it through a shaped link.
 *   node tests/bench/codec-policy.ts [--model DIR] [--tokens 1024] [--repeats 3] [--dtypes bf16,f32] [--rates 50,1000,10000] [--name codec-policy]
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { basename } from 'node:path';
import { KV_CODECS, type KvCodec, PagePool } from '@causeway/kv';
import { KvEndpoint } from '@causeway/kv-transport';
import { startNats, startShapedLink } from '@causeway/testkit';
import { flag, showSpread, type Spread, spread, writeReport } from './bench-report.ts';
import { receiverPeer, serveReceiver } from './kv-receiver.ts';
import { type RealKv, realKv, SMOLLM2 } from './real-kv.ts';

const model = flag('model', SMOLLM2);
const tokens = Number(flag('tokens', '1024'));
const repeats = Number(flag('repeats', '3'));
const dtypes = flag('dtypes', 'bf16,f32').split(',');
const rates = flag('rates', '50,1000,10000').split(',').map(Number);

type Arm = KvCodec | 'auto';
const ARMS: readonly Arm[] = [...KV_CODECS, 'auto'];
/** Links from here on, Mbit/s, are measured so many times as often. */
const SHORT_FROM = 500;
const FAST_ROUNDS = 4;
const never = new AbortController().signal;

interface Observation {
  dtype: string;
  mbits: number;
  arm: Arm;
  /** -1: nothing was known of the link yet. */
  repeat: number;
  ms: number;
  sentBytes: number;
  rawBytes: number;
  codec: KvCodec;
  reason: string;
}

/** All arms at one bandwidth, in turns; the first round counts as nothing but the policy's first acquaintance with the link. */
async function atRate(kv: RealKv, mbits: number, servers: { url: string; port: number }): Promise<Observation[]> {
  await using stack = new AsyncDisposableStack();
  const link = stack.use(await startShapedLink({ target: servers.port, bitsPerSecond: mbits * 1e6 }));
  const child = fork(import.meta.filename, [...process.argv.slice(2), '--receiver', servers.url]);
  stack.defer(async () => {
    child.disconnect();
    await once(child, 'exit');
  });
  const receiver = await receiverPeer(child, kv);
  const pool = stack.use(new PagePool({ descriptor: kv.descriptor, pageCount: kv.pages.length }));
  const set = stack.use(pool.reserve(kv.pages.length) ?? failed());
  for (const [i, page] of set.pages.entries()) pool.bytes(page).set(kv.pages[i] as Uint8Array);
  set.startFilling();
  set.commit();
  const endpoints = new Map<Arm, KvEndpoint>();
  for (const arm of ARMS) {
    const options = {
      servers: `nats://127.0.0.1:${link.port}`,
      workerId: `s-${ARMS.indexOf(arm)}`,
      pool,
      chip: 'cpu',
      codec: arm,
    };
    endpoints.set(arm, stack.use(await KvEndpoint.connect({ ...options, fingerprint: kv.fingerprint })));
  }
  const seen: Observation[] = [];
  // short transfers are cheap, and what else the machine does shows more in them
  const rounds = mbits < SHORT_FROM ? repeats : FAST_ROUNDS * repeats;
  for (let repeat = -1; repeat < rounds; repeat++) {
    for (const [arm, endpoint] of endpoints) {
      const { ticket } = await receiver.ticket(kv.tokens);
      const start = performance.now();
      const stats = await endpoint.send({ ticket, pages: set, signal: never }).finish({});
      const ms = performance.now() - start;
      const { sentBytes, rawBytes, codec, codecReason } = stats;
      seen.push({ dtype: kv.descriptor.storage.dtype, mbits, arm, repeat, ms, sentBytes, rawBytes, codec, reason: codecReason });
      console.log(
        `${kv.descriptor.storage.dtype} ${mbits} Mbit/s ${arm} #${repeat}: ${ms.toFixed(0)} ms, ${codec}, ${codecReason}`,
      );
    }
  }
  return seen;
}

function failed(): never {
  throw new Error('no pages');
}

interface Row {
  dtype: string;
  mbits: number;
  /** ms to commit. */
  arms: Record<Arm, Spread>;
  best: KvCodec;
  /** The codec that carried most bytes of the last transfer, and why. */
  chosen: KvCodec;
  reason: string;
  /** The policy's time over that of the codec that was fastest by median. */
  ratio: number;
  /** The same of the least times: what others do on the machine only adds. */
  leastRatio: number;
  firstRatio: number;
}

function summarise(all: readonly Observation[]): Row[] {
  return dtypes.flatMap((dtype) =>
    rates.map((mbits): Row => {
      const own = all.filter((one) => one.dtype === dtype && one.mbits === mbits);
      const times = (arm: Arm): Spread => spread(own.filter((one) => one.arm === arm && one.repeat >= 0).map(({ ms }) => ms));
      const arms = Object.fromEntries(ARMS.map((arm) => [arm, times(arm)])) as Record<Arm, Spread>;
      const best = [...KV_CODECS].sort((a, b) => arms[a].median - arms[b].median)[0] as KvCodec;
      const autos = own.filter(({ arm }) => arm === 'auto');
      const last = autos.at(-1) as Observation;
      const fastest = arms[best].median;
      const leastRatio = arms.auto.min / Math.min(...KV_CODECS.map((codec) => arms[codec].min));
      const firstRatio = (autos[0] as Observation).ms / fastest;
      return {
        dtype,
        mbits,
        arms,
        best,
        chosen: last.codec,
        reason: last.reason,
        ratio: arms.auto.median / fastest,
        leastRatio,
        firstRatio,
      };
    }),
  );
}

async function main(): Promise<void> {
  const observations: Observation[] = [];
  for (const dtype of dtypes) {
    const kv = await realKv(model, tokens, { CAUSEWAY_KV_DTYPE: dtype });
    await using nats = await startNats();
    for (const mbits of rates) observations.push(...(await atRate(kv, mbits, nats)));
  }
  const summary = summarise(observations);
  for (const { dtype, mbits, arms, best, chosen, ratio, firstRatio } of summary) {
    const times = ARMS.map((arm) => `${arm} ${showSpread(arms[arm], 0)}`).join(', ');
    console.log(
      `${dtype} ${mbits} Mbit/s: ${times}; best ${best}, chosen ${chosen}: ${ratio.toFixed(2)}, first ${firstRatio.toFixed(2)}`,
    );
  }
  const args = process.argv.slice(2).filter((arg, i, argv) => arg !== '--model' && argv[i - 1] !== '--model');
  writeReport(flag('name', 'codec-policy'), {
    command: `./causeway bench codec-policy ${args.join(' ')}`.trim(),
    peers: {},
    setting: { model: basename(model), tokens, repeats },
    repeats: observations,
    summary,
  });
}

const servers = flag('receiver', '');
await (servers === '' ? main() : serveReceiver(servers));
