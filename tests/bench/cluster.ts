/**
 * Through the cluster against the engine alone, alternating in one run: TTFT, tokens/s of one stream and the handoff gap.
 * The engine alone runs in this process with as many threads as a worker has; both arms get the same prompts.
 *   node tests/bench/cluster.ts [--model models/tiny-moe] [--prompt 512] [--tokens 64] [--repeats 5] [--threads 2] [--name cluster-tiny-moe]
 */
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { Generation } from '@causeway/engine';
import { loadTokenizer, openCheckpoint, type Tokenizer } from '@causeway/model-files';
import { startCluster } from '@causeway/testkit';
import { loadEngine } from '@causeway/worker-runtime';
import { flag, showSpread, spread, writeReport } from './bench-report.ts';

const model = flag('model', 'models/tiny-moe');
const promptTokens = Number(flag('prompt', '512'));
const tokens = Number(flag('tokens', '64'));
const repeats = Number(flag('repeats', '5'));
const threads = Number(flag('threads', '2'));
const modelName = basename(model);
const maxContext = promptTokens + tokens + 16;

interface Observation {
  ttftMs: number;
  /** First to second token. */
  gapMs: number;
  /** Tokens after the second, by the time from the second to the last. */
  tokensPerSecond: number;
  tokens: number;
}

/** Prose of this repository, from another place each time. */
const prose = readFileSync(join(import.meta.dirname, '../../docs/architecture.md'), 'utf8').repeat(4);

function promptIds(tokenizer: Tokenizer, repeat: number): number[] {
  return tokenizer.encode(prose.slice(repeat * 97)).slice(0, promptTokens);
}

await using loaded = await loadEngine({
  modelPath: model,
  chip: 'cpu',
  threads,
  precision: 'fast',
  kvBudgetBytes: 4 * 1024 ** 3,
  maxContext,
  maxSequences: 4,
  chunkTokens: 256,
});
const { engine } = loaded;
using checkpoint = await openCheckpoint(model);
if (checkpoint.tokenizerSource === undefined) throw new Error(`${model} has no tokenizer`);
const tokenizer = loadTokenizer(checkpoint.tokenizerSource);
await using cluster = await startCluster({
  model,
  modelName,
  router: true,
  workerEnv: {
    CAUSEWAY_THREADS: String(threads),
    CAUSEWAY_MAX_CONTEXT: String(maxContext),
    CAUSEWAY_MAX_SEQUENCES: '4',
    CAUSEWAY_KV_BUDGET_BYTES: String(4 * 1024 ** 3),
    CAUSEWAY_LOG_LEVEL: 'info',
  },
});

async function alone(ids: readonly number[]): Promise<Observation> {
  const generation: Generation = {
    promptIds: Uint32Array.from(ids),
    replayIds: new Uint32Array(0),
    maxTokens: tokens,
    stopTokenIds: [],
    ignoreEos: false,
    sampling: { temperature: 0, topP: 1, topK: 0, seed: 0n },
    firstPosition: 0,
  };
  const { signal } = new AbortController();
  const start = performance.now();
  const times: number[] = [];
  using pages = await engine.reserve(engine.room(generation), signal);
  const { first } = await engine.prefill(generation, pages, signal);
  times.push(performance.now() - start);
  for await (const _token of engine.decode(generation, pages, first, signal)) times.push(performance.now() - start);
  const [firstAt = 0, secondAt = 0] = times;
  return {
    ttftMs: firstAt,
    gapMs: secondAt - firstAt,
    tokensPerSecond: ((times.length - 2) / ((times.at(-1) ?? 0) - secondAt)) * 1000,
    tokens: times.length,
  };
}

async function throughCluster(ids: readonly number[]): Promise<Observation & { kv: unknown }> {
  const start = performance.now();
  const response = await fetch(`http://${cluster.router.http}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: modelName, prompt: ids, max_tokens: tokens, temperature: 0, stream: true }),
  });
  if (!response.ok || response.body === null) throw new Error(await response.text());
  let firstAt = 0;
  let lastAt = 0;
  let usage: { completion_tokens: number; causeway: { handoff_gap_ms: number } } | undefined;
  let rest = '';
  for await (const bytes of response.body.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + bytes).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      if (!line.startsWith('data: {')) continue;
      const chunk = JSON.parse(line.slice(6)) as { choices: { text: string }[]; usage?: typeof usage };
      if ((chunk.choices[0]?.text ?? '') !== '') {
        lastAt = performance.now() - start;
        if (firstAt === 0) firstAt = lastAt;
      }
      usage = chunk.usage ?? usage;
    }
  }
  if (usage === undefined) throw new Error('the stream had no usage');
  const gapMs = usage.causeway.handoff_gap_ms;
  const tokensPerSecond = ((usage.completion_tokens - 2) / (lastAt - firstAt - gapMs)) * 1000;
  return { ttftMs: firstAt, gapMs, tokensPerSecond, tokens: usage.completion_tokens, kv: usage.causeway };
}

const observations: { arm: string; repeat: number; value: Observation }[] = [];
for (let repeat = -1; repeat < repeats; repeat++) {
  const ids = promptIds(tokenizer, repeat + 2);
  for (const [arm, run] of [
    ['engine alone', alone],
    ['cluster', throughCluster],
  ] as const) {
    const value = await run(ids);
    // The first round warms both arms up.
    if (repeat >= 0) observations.push({ arm, repeat, value });
    console.log(arm, repeat, JSON.stringify(value));
  }
}
const of = (arm: string, key: keyof Observation): number[] =>
  observations.filter((item) => item.arm === arm).map((item) => item.value[key]);
const ratio = (key: keyof Observation): number[] =>
  of('cluster', key).map((value, i) => value / (of('engine alone', key)[i] as number));
const summary = {
  engineAlone: {
    ttftMs: spread(of('engine alone', 'ttftMs')),
    tokensPerSecond: spread(of('engine alone', 'tokensPerSecond')),
    gapMs: spread(of('engine alone', 'gapMs')),
  },
  cluster: {
    ttftMs: spread(of('cluster', 'ttftMs')),
    tokensPerSecond: spread(of('cluster', 'tokensPerSecond')),
    gapMs: spread(of('cluster', 'gapMs')),
  },
  ratios: { ttft: spread(ratio('ttftMs')), tokensPerSecond: spread(ratio('tokensPerSecond')) },
};
for (const [name, value] of Object.entries(summary.ratios)) console.log(`cluster / engine alone, ${name}: ${showSpread(value)}`);
writeReport(flag('name', `cluster-${modelName}-${promptTokens}`), {
  command: `node tests/bench/cluster.ts ${process.argv.slice(2).join(' ')}`.trim(),
  peers: { 'engine alone': 'packages/engine in one process, same commit' },
  setting: { model: modelName, promptTokens, tokens, repeats, threads, precision: 'fast' },
  repeats: observations,
  summary,
});
