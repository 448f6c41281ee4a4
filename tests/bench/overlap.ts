/**
 * How much of a transfer is left when a prompt has been computed: from the end of prefill to the commit, against the whole transfer
 * (first frame to commit), as the prefill worker measures both. Real processes: router, prefill, NATS, decode.
 *   node tests/bench/overlap.ts [--model models/tiny-moe] [--prompt 2000] [--repeats 5] [--from cpu] [--to cpu] [--layouts HND,NZ] [--groups 1] [--name overlap-tiny-moe]
 */
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { loadTokenizer, openCheckpoint } from '@causeway/model-files';
import { scrape, startCluster } from '@causeway/testkit';
import { flag, showSpread, spread, writeReport } from './bench-report.ts';

const model = flag('model', 'models/tiny-moe');
const promptTokens = Number(flag('prompt', '2000'));
const repeats = Number(flag('repeats', '5'));
const [from, to] = [flag('from', 'cpu'), flag('to', 'cpu')];
/** How each end lays pages out, if not as its family does by default. */
const [fromLayout, toLayout] = flag('layouts', '').split(',');
const groups = flag('groups', '1');
const modelName = basename(model);

const chip = (name: string, layout: string | undefined) => ({
  CAUSEWAY_CHIP: name,
  ...(layout === undefined || layout === '' ? {} : { CAUSEWAY_KV_LAYOUT: layout }),
  ...(name === 'cpu' ? {} : { CAUSEWAY_CHIP_EMULATED: 'on' }),
});

await using cluster = await startCluster({
  model,
  modelName,
  router: true,
  workerEnv: {
    CAUSEWAY_THREADS: '2',
    CAUSEWAY_MAX_CONTEXT: String(promptTokens + 32),
    CAUSEWAY_MAX_SEQUENCES: '2',
    CAUSEWAY_KV_BUDGET_BYTES: String(2 * 1024 ** 3),
    CAUSEWAY_KV_LOSSY: 'on',
  },
  env: {
    'prefill-1': { ...chip(from, fromLayout), CAUSEWAY_LAYER_GROUPS: groups },
    'decode-1': chip(to, toLayout),
  },
});

/** Prose of this repository, from another place each time. */
const prose = ['architecture.md', 'operations.md', 'wire.md']
  .map((name) => readFileSync(join(import.meta.dirname, '../../docs', name), 'utf8'))
  .join('\n');
using checkpoint = await openCheckpoint(model);
if (checkpoint.tokenizerSource === undefined) throw new Error(`${model} has no tokenizer`);
const tokenizer = loadTokenizer(checkpoint.tokenizerSource);

interface Observation {
  repeat: number;
  tailMs: number;
  transferMs: number;
  share: number;
  prefillMs: number;
  rawBytes: number;
  sentBytes: number;
}

/** Milliseconds of all transfers so far. */
async function sums(): Promise<{ tail: number; transfer: number }> {
  const metric = await scrape(cluster.worker('prefill-1'));
  return {
    tail: metric('causeway_kv_transfer_tail_seconds_sum') * 1000,
    transfer: metric('causeway_kv_transfer_seconds_sum') * 1000,
  };
}

const observations: Observation[] = [];
for (let repeat = -1; repeat < repeats; repeat++) {
  const prompt = tokenizer.encode(prose.slice((repeat + 2) * 997)).slice(0, promptTokens);
  if (prompt.length < promptTokens) throw new Error(`the prose has ${prompt.length} tokens only`);
  const before = await sums();
  const response = await fetch(`http://${cluster.router.http}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: modelName, prompt, max_tokens: 4, temperature: 0 }),
  });
  const answer = (await response.json()) as {
    usage: { causeway: { bytes_raw: number; bytes_sent: number; prefill_ms: number } };
  };
  if (!response.ok) throw new Error(JSON.stringify(answer));
  const after = await sums();
  const [tailMs, transferMs] = [after.tail - before.tail, after.transfer - before.transfer];
  const { causeway } = answer.usage;
  console.log(repeat, `tail ${tailMs.toFixed(0)} ms of ${transferMs.toFixed(0)} ms`, JSON.stringify(causeway));
  // the first one warms up
  if (repeat < 0) continue;
  observations.push({
    repeat,
    tailMs,
    transferMs,
    share: tailMs / transferMs,
    prefillMs: causeway.prefill_ms,
    rawBytes: causeway.bytes_raw,
    sentBytes: causeway.bytes_sent,
  });
}
const summary = {
  tailMs: spread(observations.map(({ tailMs }) => tailMs)),
  transferMs: spread(observations.map(({ transferMs }) => transferMs)),
  share: spread(observations.map(({ share }) => share)),
};
console.log(`left after prefill: ${showSpread(summary.share, 3)} of the transfer`);
writeReport(flag('name', `overlap-${modelName}-${from}-${to}`), {
  command: `node tests/bench/overlap.ts ${process.argv.slice(2).join(' ')}`.trim(),
  peers: {},
  setting: { model: modelName, promptTokens, from, to, fromLayout, toLayout, layerGroups: Number(groups), threads: 2, repeats },
  repeats: observations,
  summary,
});
