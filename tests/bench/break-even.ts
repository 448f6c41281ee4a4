/**
 * From which prompt length a prefill worker pays over a link of given bandwidth. Prefilled where it is decoded, a prompt stops the answers
 * that run there for as long as it takes; prefilled elsewhere, its own answer waits for the rest of the transfer instead. It pays as soon
 * as the second is shorter. Predicted from prefill times, bytes and the fixed cost of a transfer; measured through a shaped link.
 *   ./causeway bench break-even [--model DIR] [--mbits 50] [--lengths 16,32,64,128,256,512] [--repeats 8] [--name break-even]
 */
import { basename, resolve } from 'node:path';
import { createChannelPool } from '@causeway/rpc';
import { type Cluster, freePort, runAttempt, startCluster, startShapedLink } from '@causeway/testkit';
import { flag, spread, type Spread, writeReport } from './bench-report.ts';
import { proseTokens } from './real-kv.ts';

const model = resolve(flag('model', resolve(import.meta.dirname, '../../models/tiny-moe')));
const mbits = Number(flag('mbits', '50'));
const lengths = flag('lengths', '16,32,64,128,256,512').split(',').map(Number);
const repeats = Number(flag('repeats', '8'));
/** Bandwidths to predict for. */
const PREDICTED = [...new Set([10, mbits, 100, 1000])];
/** What the machine carries anyway. */
const UNSHAPED = 100_000;
const CHUNK = 256;
const MODEL = 'under-test';

interface Observation {
  link: 'shaped' | 'unshaped';
  tokens: number;
  repeat: number;
  /** From the first token to the second, which the decode worker writes in either case. */
  localGapMs: number;
  disaggregatedGapMs: number;
  /** How long the decode worker read the prompt: what its other answers wait. */
  pauseMs: number;
  sentBytes: number;
}

async function observe(
  cluster: Cluster,
  ids: readonly number[],
  link: Observation['link'],
  rounds: number,
): Promise<Observation[]> {
  using channels = createChannelPool();
  const [prefill, decode] = [cluster.worker('prefill-1').address, cluster.worker('decode-1').address];
  const ask = async (tokens: number, local: boolean) => {
    let [first, second] = [Number.NaN, Number.NaN];
    const result = await runAttempt({
      channels,
      model: MODEL,
      decode,
      ...(local ? {} : { prefill }),
      generation: { promptIds: ids.slice(0, tokens), maxTokens: 2, ignoreEos: true },
      onEvent: ({ event }) => {
        const now = performance.now();
        if (event?.$case === 'firstToken') first = now;
        if (event?.$case !== 'token') return;
        if (event.value.position === 0 && local) first = now;
        if (event.value.position === 1) second = now;
      },
    });
    return { gap: second - first, result };
  };
  const seen: Observation[] = [];
  for (let repeat = -1; repeat < rounds; repeat++) {
    for (const tokens of lengths) {
      const here = await ask(tokens, true);
      const there = await ask(tokens, false);
      if (repeat < 0) continue;
      const pauseMs = here.result.kv?.prefillMs ?? Number.NaN;
      const sentBytes = Number(there.result.sent?.stats?.sentBytes ?? 0n);
      const one = { link, tokens, repeat, localGapMs: here.gap, disaggregatedGapMs: there.gap, pauseMs, sentBytes };
      console.log(
        `${link} ${tokens}: gap ${one.localGapMs.toFixed(0)} ms, after a transfer ${one.disaggregatedGapMs.toFixed(0)} ms, pause ${pauseMs.toFixed(0)} ms`,
      );
      seen.push(one);
    }
  }
  return seen;
}

const middle = (values: readonly number[]): number => spread(values).median;

/** Where a line through the points goes from above zero to below; undefined when it never does. */
function crossing(points: readonly { tokens: number; excess: number }[]): number | undefined {
  const at = points.findIndex(({ excess }, i) => excess < 0 && points.slice(i).every((later) => later.excess < 0));
  if (at < 0) return undefined;
  const [after, before] = [points[at], points[at - 1]];
  if (after === undefined || before === undefined) return after?.tokens;
  return before.tokens + ((after.tokens - before.tokens) * before.excess) / (before.excess - after.excess);
}

/** A prompt length. */
export interface BreakEvenRow {
  tokens: number;
  pauseMs: Spread;
  /** From the first token to the second. */
  localGapMs: Spread;
  disaggregatedGapMs: Spread;
  /** By how much longer that takes after a transfer, by the medians. */
  waitMs: number;
  predictedWaitMs: number;
}

function summarise(all: readonly Observation[]) {
  const of = (link: Observation['link'], tokens: number) => all.filter((one) => one.link === link && one.tokens === tokens);
  const [shortest = 0] = lengths;
  const wait = (seen: readonly Observation[]): number =>
    middle(seen.map(({ disaggregatedGapMs }) => disaggregatedGapMs)) - middle(seen.map(({ localGapMs }) => localGapMs));
  const fixedMs = Math.max(0, wait(of('unshaped', shortest)));
  const pause = (tokens: number): number => middle(of('unshaped', tokens).map(({ pauseMs }) => pauseMs));
  const bytes = (tokens: number): number => middle(of('shaped', tokens).map(({ sentBytes }) => sentBytes));
  /** What is left of the transfer when the prompt is read: chunks leave while later ones are computed. */
  const predicted = (tokens: number, rate: number): number => {
    const bytesPerMs = rate * 125;
    const last = tokens % CHUNK === 0 ? Math.min(CHUNK, tokens) : tokens % CHUNK;
    const share = last / tokens;
    const carry = bytes(tokens) / bytesPerMs;
    return fixedMs + Math.max(share * carry, carry - (1 - share) * pause(tokens));
  };
  const rows: BreakEvenRow[] = lengths.map((tokens) => ({
    tokens,
    pauseMs: spread(of('shaped', tokens).map(({ pauseMs }) => pauseMs)),
    localGapMs: spread(of('shaped', tokens).map(({ localGapMs }) => localGapMs)),
    disaggregatedGapMs: spread(of('shaped', tokens).map(({ disaggregatedGapMs }) => disaggregatedGapMs)),
    waitMs: wait(of('shaped', tokens)),
    predictedWaitMs: predicted(tokens, mbits),
  }));
  const breakEven = PREDICTED.map((rate) => ({
    mbits: rate,
    tokens: crossing(lengths.map((tokens) => ({ tokens, excess: predicted(tokens, rate) - pause(tokens) }))),
  }));
  const measured = crossing(rows.map(({ tokens, waitMs, pauseMs }) => ({ tokens, excess: waitMs - pauseMs.median })));
  return { mbits, fixedMs, rows, breakEven, measured };
}

const port = await freePort();
await using link = await startShapedLink({ target: port, bitsPerSecond: UNSHAPED * 1e6 });
await using cluster = await startCluster({
  model,
  modelName: MODEL,
  nats: { port },
  workerEnv: {
    CAUSEWAY_KV_DTYPE: 'bf16',
    CAUSEWAY_KV_BUDGET_BYTES: '1GiB',
    CAUSEWAY_MAX_CONTEXT: '2048',
    CAUSEWAY_CHUNK_TOKENS: String(CHUNK),
  },
  env: { 'prefill-1': { CAUSEWAY_NATS_URL: `nats://127.0.0.1:${link.port}` } },
});
const ids = await proseTokens(model, Math.max(...lengths));
const unshaped = await observe(cluster, ids, 'unshaped', repeats);
link.setRate(mbits * 1e6);
const observations = [...unshaped, ...(await observe(cluster, ids, 'shaped', repeats))];
const summary = summarise(observations);
for (const { mbits: rate, tokens } of summary.breakEven) {
  console.log(
    `${rate} Mbit/s: pays from ${tokens === undefined ? 'no length tried' : `${tokens.toFixed(0)} tokens`} on, predicted`,
  );
}
console.log(
  `${mbits} Mbit/s: ${summary.measured === undefined ? 'no length tried' : `${summary.measured.toFixed(0)} tokens`}, measured`,
);
writeReport(flag('name', 'break-even'), {
  command: `./causeway bench break-even --mbits ${mbits} --lengths ${lengths.join(',')} --repeats ${repeats}`,
  peers: {},
  setting: { model: basename(model), mbits, kvDtype: 'bf16', chunkTokens: CHUNK, threads: 1 },
  repeats: observations,
  summary,
});
