/**
 * From which prompt length on a prompt should be prefilled elsewhere: for each length, alternating `local` and `disaggregated` in
 * one run beside a stream that is being written, (a) the newcomer's time to its second token and (b) the longest pause of the
 * running stream while the newcomer starts. `local` spares the newcomer the transfer; `disaggregated` spares everybody else the prefill.
 *   node tests/bench/placement.ts [--model ../shared/models/smollm2-135m-instruct] [--repeats 5] [--threads 1] [--name placement]
 */
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { loadTokenizer, openCheckpoint } from '@causeway/model-files';
import { createChannelPool } from '@causeway/rpc';
import { type AttemptOptions, runAttempt, startCluster } from '@causeway/testkit';
import { flag, showSpread, spread, writeReport } from './bench-report.ts';

const model = flag('model', '../shared/models/smollm2-135m-instruct');
const repeats = Number(flag('repeats', '5'));
const threads = flag('threads', '1');
const modelName = basename(model);
const LENGTHS = [8, 16, 32, 64, 128, 256, 512];
/** Tokens of the running stream; long enough for a whole round. */
const STREAM_TOKENS = 1500;
const MAX_CONTEXT = 2048;

using checkpoint = await openCheckpoint(model);
if (checkpoint.tokenizerSource === undefined) throw new Error(`${model} has no tokenizer`);
const prose = loadTokenizer(checkpoint.tokenizerSource).encode(
  readFileSync(join(import.meta.dirname, '../../docs/architecture.md'), 'utf8').repeat(2),
);
await using cluster = await startCluster({
  model,
  modelName,
  workerEnv: {
    CAUSEWAY_THREADS: threads,
    CAUSEWAY_MAX_CONTEXT: String(MAX_CONTEXT),
    CAUSEWAY_MAX_SEQUENCES: '4',
    CAUSEWAY_KV_BUDGET_BYTES: String(4 * 1024 ** 3),
  },
});
using channels = createChannelPool();
const workers: Pick<AttemptOptions, 'channels' | 'model' | 'decode'> = {
  channels,
  model: modelName,
  decode: cluster.worker('decode-1').address,
};
const prefill = cluster.worker('prefill-1').address;

interface Observation {
  secondTokenMs: number;
  streamPauseMs: number;
}

/** A newcomer beside a running stream. */
async function newcomer(ids: readonly number[], local: boolean): Promise<Observation> {
  const ended = new AbortController();
  const times: number[] = [];
  const running = Promise.withResolvers<void>();
  const stream = runAttempt({
    ...workers,
    generation: { promptIds: prose.slice(0, 32), maxTokens: STREAM_TOKENS, ignoreEos: true },
    signal: ended.signal,
    onEvent: (event) => {
      if (event.event?.$case !== 'token') return;
      times.push(performance.now());
      if (times.length === 20) running.resolve();
    },
  }).catch(() => undefined);
  await running.promise;
  const start = performance.now();
  let tokens = 0;
  let secondTokenMs = 0;
  await runAttempt({
    ...workers,
    ...(local ? {} : { prefill }),
    generation: { promptIds: ids, maxTokens: 6, ignoreEos: true },
    onEvent: ({ event }) => {
      if (event?.$case !== 'token' && event?.$case !== 'firstToken') return;
      if (++tokens === 2) secondTokenMs = performance.now() - start;
    },
  });
  const end = performance.now();
  ended.abort(new Error('measured'));
  await stream;
  const during = times.filter((time, i) => (times[i + 1] ?? end) >= start && time <= end);
  const pauses = during.slice(1).map((time, i) => time - (during[i] as number));
  return { secondTokenMs, streamPauseMs: Math.max(0, ...pauses) };
}

const observations: { tokens: number; arm: 'local' | 'disaggregated'; repeat: number; value: Observation }[] = [];
for (let repeat = -1; repeat < repeats; repeat++) {
  for (const tokens of LENGTHS) {
    const from = 40 + (repeat + 1) * 13;
    for (const arm of ['local', 'disaggregated'] as const) {
      const value = await newcomer(prose.slice(from, from + tokens), arm === 'local');
      if (repeat >= 0) observations.push({ tokens, arm, repeat, value });
    }
  }
}
const of = (tokens: number, arm: string, key: keyof Observation) =>
  spread(observations.filter((o) => o.tokens === tokens && o.arm === arm).map((o) => o.value[key]));
const table = LENGTHS.map((tokens) => ({
  tokens,
  local: { secondTokenMs: of(tokens, 'local', 'secondTokenMs'), streamPauseMs: of(tokens, 'local', 'streamPauseMs') },
  disaggregated: {
    secondTokenMs: of(tokens, 'disaggregated', 'secondTokenMs'),
    streamPauseMs: of(tokens, 'disaggregated', 'streamPauseMs'),
  },
}));
console.log(
  'prompt | newcomer to 2nd token, ms: local / disaggregated | longest pause of the running stream, ms: local / disaggregated',
);
for (const row of table) {
  console.log(
    `${row.tokens} | ${showSpread(row.local.secondTokenMs, 0)} / ${showSpread(row.disaggregated.secondTokenMs, 0)} | ` +
      `${showSpread(row.local.streamPauseMs, 0)} / ${showSpread(row.disaggregated.streamPauseMs, 0)}`,
  );
}
writeReport(flag('name', 'placement'), {
  command: `node tests/bench/placement.ts ${process.argv.slice(2).join(' ')}`.trim(),
  peers: { local: 'the same cluster, prompt prefilled on the decode worker' },
  setting: { model: modelName, lengths: LENGTHS, repeats, threads: Number(threads), precision: 'fast' },
  repeats: observations,
  summary: table,
});
