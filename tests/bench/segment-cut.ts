/**
 * What a cut between segments costs: prefill and decode times of one model as 1, 2, 5 and as many segments as it has layers,
 * through the engine. Writes docs/reports/segment-cut.json.
 *
 * Usage: node tests/bench/segment-cut.ts [CHECKPOINT] [--threads N] [--steps N] [--rounds N]
 */
import { availableParallelism } from 'node:os';
import { basename, join } from 'node:path';
import { parseArgs } from 'node:util';
import { createEngine, type Generation } from '@causeway/engine';
import { type KvDescriptor, PagePool } from '@causeway/kv';
import { openCheckpoint } from '@causeway/model-files';
import { loadModel } from '@causeway/models';
import { Runtime } from '@causeway/ort';
import { spread, writeReport } from './bench-report.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    threads: { type: 'string', default: String(availableParallelism()) },
    steps: { type: 'string', default: '40' },
    rounds: { type: 'string', default: '5' },
  },
});
const path = positionals[0] ?? join(import.meta.dirname, '../../../shared/models/smollm2-135m-instruct');
const steps = Number(values.steps);
const rounds = Number(values.rounds);

const PROMPT_TOKENS = 256;
const BLOCK_TOKENS = 16;

/** One round of one variant. */
interface Repeat {
  segments: number;
  round: number;
  prefillMs: number;
  /** Median over the round's steps. */
  decodeStepMs: number;
}

/** The model in some number of segments, ready to be measured. */
interface Variant extends AsyncDisposable {
  /** Prefills a prompt and decodes an answer; */
  round(seed: number): Promise<Repeat>;
  segments: number;
}

const median = (numbers: readonly number[]): number => numbers.toSorted((a, b) => a - b)[numbers.length >> 1] ?? Number.NaN;
const rounded = (ms: number): number => Math.round(ms * 1000) / 1000;

/** Layers at which `wanted` segments of about equal length begin, the first left out. */
function evenCuts(layers: number, wanted: number): number[] {
  return Array.from({ length: wanted - 1 }, (_, i) => Math.round(((i + 1) * layers) / wanted));
}

async function start(runtime: Runtime, cuts: readonly number[]): Promise<Variant> {
  await using stack = new AsyncDisposableStack();
  const checkpoint = stack.use(await openCheckpoint(path));
  const model = stack.use(await loadModel({ checkpoint, precision: 'fast', cuts }));
  const storage = { dtype: 'f32', layout: 'NHD', blockTokens: BLOCK_TOKENS, shards: { count: 1, index: 0 } } as const;
  const descriptor: KvDescriptor = { version: 1, layers: model.layers, storage };
  const pages = Math.ceil((PROMPT_TOKENS + steps) / BLOCK_TOKENS) + 1;
  const pool = stack.use(new PagePool({ descriptor, pageCount: pages }));
  const chunks: number[] = [];
  const decodeSteps: number[] = [];
  const engine = stack.use(
    await createEngine({
      runtime,
      model,
      pool,
      maxSequences: 1,
      maxContext: PROMPT_TOKENS + steps,
      chunkTokens: PROMPT_TOKENS,
      info: {
        name: checkpoint.name,
        architecture: model.architecture,
        vocabSize: model.vocabSize,
        contextLength: model.contextLength,
        eosTokenIds: [],
        descriptor,
      },
      hooks: { onPrefillChunk: ({ ms }) => void chunks.push(ms), onStep: ({ ms }) => void decodeSteps.push(ms) },
    }),
  );
  const { signal } = new AbortController();
  const round = async (seed: number): Promise<Repeat> => {
    chunks.length = decodeSteps.length = 0;
    const generation: Generation = {
      promptIds: Uint32Array.from({ length: PROMPT_TOKENS }, (_, t) => (t * 7919 + seed) % model.vocabSize),
      replayIds: new Uint32Array(),
      maxTokens: steps,
      stopTokenIds: [],
      ignoreEos: true,
      sampling: { temperature: 0, topP: 1, topK: 0, seed: 0n },
      firstPosition: 0,
    };
    const reserved = await engine.reserve(PROMPT_TOKENS + steps, signal);
    const { first } = await engine.prefill(generation, reserved, signal);
    let tokens = 1;
    for await (const token of engine.decode(generation, reserved, first, signal)) tokens += token.position > 0 ? 1 : 0;
    if (tokens !== steps) throw new Error(`${tokens} tokens of ${steps}`);
    return {
      segments: model.segments.length,
      round: seed,
      prefillMs: rounded(chunks.reduce((sum, ms) => sum + ms, 0)),
      decodeStepMs: rounded(median(decodeSteps)),
    };
  };
  const owned = stack.move();
  return { round, segments: model.segments.length, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

const { layers } = await openCheckpoint(path).then((checkpoint) => {
  using open = checkpoint;
  return open.config;
});
await using runtime = Runtime.create({ threads: Number(values.threads) });
await using stack = new AsyncDisposableStack();
const variants: Variant[] = [];
for (const wanted of [1, 2, 5, layers].filter((count, i, all) => count <= layers && all.indexOf(count) === i)) {
  variants.push(stack.use(await start(runtime, evenCuts(layers, wanted))));
}
// Variants take turns, so that whatever else the machine does touches all of them.
// The first round warms up.
const repeats: Repeat[] = [];
for (let i = 0; i <= rounds; i++) {
  for (const variant of variants) {
    const repeat = await variant.round(i);
    if (i > 0) repeats.push(repeat);
  }
}
const results = variants.map(({ segments }) => {
  const own = repeats.filter((repeat) => repeat.segments === segments);
  return {
    segments,
    prefillMs: spread(own.map((repeat) => repeat.prefillMs)),
    decodeStepMs: spread(own.map((repeat) => repeat.decodeStepMs)),
  };
});
const [one, last] = [results[0], results.at(-1)];
const perCut = (field: 'prefillMs' | 'decodeStepMs'): number =>
  one === undefined || last === undefined || last === one
    ? 0
    : rounded((last[field].median - one[field].median) / (last.segments - one.segments));
writeReport('segment-cut', {
  command: `node tests/bench/segment-cut.ts ${process.argv.slice(2).join(' ')}`.trim(),
  peers: { '1 segment': 'the same model uncut, same commit' },
  setting: {
    model: basename(path),
    threads: Number(values.threads),
    promptTokens: PROMPT_TOKENS,
    decodeStepsPerRound: steps - 1,
    rounds,
    precision: 'fast',
  },
  repeats,
  summary: { results, perCut: { prefillMs: perCut('prefillMs'), decodeStepMs: perCut('decodeStepMs') } },
});
