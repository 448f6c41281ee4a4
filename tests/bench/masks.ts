/**
 * What structured output costs: time from a token to the mask of the next one, through the thread that computes it, and the time
 * between tokens of answers with and without a format, taking turns.
 *
 * Usage: node tests/bench/masks.ts [--model DIR] [--tokens N] [--repeats N] [--threads N] [--name NAME]
 */
import { availableParallelism } from 'node:os';
import { basename, resolve } from 'node:path';
import type { Generation } from '@causeway/engine';
import { allows, type Constraint, jsonSchemaConstraint, packTokens, TokenConstraints } from '@causeway/grammar';
import { loadTokenizer, openCheckpoint } from '@causeway/model-files';
import { loadEngine } from '@causeway/worker-runtime';
import { flag, spread, writeReport } from './bench-report.ts';

const modelPath = resolve(flag('model', '../shared/models/smollm2-135m-instruct'));
const tokens = Number(flag('tokens', '2000'));
const repeats = Number(flag('repeats', '5'));
const threads = Number(flag('threads', String(availableParallelism())));
const name = flag('name', 'masks');

const string = { type: 'string' };
const item = {
  type: 'object',
  properties: {
    id: { type: 'integer' },
    tags: { type: 'array', items: { enum: ['red', 'green', 'blue'] } },
    note: { type: ['string', 'null'] },
  },
  required: ['id', 'tags'],
};
const FORMATS: Record<string, Constraint> = {
  'any object': { kind: 'json_object' },
  'three properties': jsonSchemaConstraint({
    type: 'object',
    properties: { name: string, age: { type: 'integer' }, city: string },
    required: ['name', 'age', 'city'],
  }),
  'list of objects': jsonSchemaConstraint({
    type: 'object',
    properties: { items: { type: 'array', items: item } },
    required: ['items'],
  }),
  'maxLength 200': jsonSchemaConstraint({
    type: 'object',
    properties: { a: { type: 'string', maxLength: 200 } },
    required: ['a'],
  }),
  'maxLength 5000': jsonSchemaConstraint({
    type: 'object',
    properties: { a: { type: 'string', maxLength: 5000 } },
    required: ['a'],
  }),
  'pattern, number range': jsonSchemaConstraint({
    type: 'array',
    items: {
      type: 'object',
      properties: { at: { type: 'string', format: 'date-time' }, value: { type: 'number', minimum: -40, maximum: 60 } },
      required: ['at', 'value'],
    },
  }),
};

using checkpoint = await openCheckpoint(modelPath);
const source = checkpoint.tokenizerSource;
if (source === undefined) throw new Error(`${modelPath} has no tokenizer`);
const tokenizer = loadTokenizer(source);
const [end = 0] = checkpoint.config.eosTokenIds;

/** A reproducible stream of numbers in [0, 1): the multiplier of Numerical Recipes. */
function numbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

interface MaskTimes {
  format: string;
  openMs: number;
  p50Ms: number;
  p90Ms: number;
  p99Ms: number;
  maxMs: number;
}

/** Writes documents of random tokens, which visit more places than a model's. */
async function maskTimes(format: string, constraint: Constraint, seed: number): Promise<MaskTimes> {
  const vocabSize = tokenizer.vocabSize;
  await using constraints = new TokenConstraints({
    tokens: packTokens(
      vocabSize,
      (id) => tokenizer.tokenBytes(id),
      (id) => tokenizer.isAdded(id),
    ),
  });
  using warm = constraints.open({ kind: 'regex', pattern: 'x' }, [end], []);
  await warm.mask();
  const random = numbers(seed);
  const times: number[] = [];
  let openMs: number | undefined;
  while (times.length < tokens) {
    const opened = performance.now();
    using text = constraints.open(constraint, [end], []);
    let mask = await text.mask();
    openMs ??= performance.now() - opened;
    for (let length = 0; length < 300 && times.length < tokens; length++) {
      const allowed: number[] = [];
      for (let id = 0; id < vocabSize; id++) if (allows(mask, id)) allowed.push(id);
      const id = allowed.includes(end) ? end : (allowed[Math.floor(random() * allowed.length)] as number);
      if (id === end) break;
      const started = performance.now();
      text.accept(id);
      mask = await text.mask();
      times.push(performance.now() - started);
    }
  }
  times.sort((a, b) => a - b);
  const at = (share: number): number => times[Math.min(times.length - 1, Math.floor(times.length * share))] as number;
  return { format, openMs: openMs ?? 0, p50Ms: at(0.5), p90Ms: at(0.9), p99Ms: at(0.99), maxMs: times.at(-1) as number };
}

const repeatsOfMasks: MaskTimes[] = [];
for (let repeat = 0; repeat < repeats; repeat++) {
  for (const [format, constraint] of Object.entries(FORMATS))
    repeatsOfMasks.push(await maskTimes(format, constraint, repeat + 1));
}

const ANSWER_TOKENS = 96;
const LONG = jsonSchemaConstraint({ type: 'array', items: item, minItems: 30 });
await using loaded = await loadEngine({
  modelPath,
  chip: 'cpu',
  threads,
  precision: 'fast',
  kvBudgetBytes: 512 << 20,
  maxContext: 1024,
  maxSequences: 4,
  chunkTokens: 128,
});
const promptIds = Uint32Array.from(
  tokenizer.encodeChat([{ role: 'user', content: 'Write JSON: a list of colours and their tags.' }]),
);
const { signal } = new AbortController();

/** Milliseconds between the tokens of one answer, the first left out. */
async function gaps(constraint: Constraint | undefined, seed: number): Promise<number[]> {
  const wanted: Generation = {
    promptIds,
    replayIds: new Uint32Array(0),
    maxTokens: ANSWER_TOKENS,
    stopTokenIds: [],
    ignoreEos: constraint === undefined,
    sampling: { temperature: 0.8, topP: 1, topK: 0, seed: BigInt(seed) },
    firstPosition: 0,
    ...(constraint === undefined ? {} : { constraint }),
  };
  const { engine } = loaded;
  using pages = await engine.reserve(engine.room(wanted), signal);
  const { first } = await engine.prefill(wanted, pages, signal);
  const found: number[] = [];
  let last: number | undefined;
  for await (const _ of engine.decode(wanted, pages, first, signal)) {
    const now = performance.now();
    if (last !== undefined) found.push(now - last);
    last = now;
  }
  return found;
}

const median = (values: readonly number[]): number => spread(values).median;
const p99 = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[Math.floor(values.length * 0.99)] as number;
await gaps(LONG, 0);
await gaps(undefined, 0);
const repeatsOfGaps: { free: { medianMs: number; p99Ms: number }; held: { medianMs: number; p99Ms: number } }[] = [];
for (let repeat = 1; repeat <= repeats; repeat++) {
  const free = await gaps(undefined, repeat);
  const held = await gaps(LONG, repeat);
  repeatsOfGaps.push({ free: { medianMs: median(free), p99Ms: p99(free) }, held: { medianMs: median(held), p99Ms: p99(held) } });
}

writeReport(name, {
  command: `node tests/bench/masks.ts${process.argv
    .slice(2)
    .map((word) => ` ${word}`)
    .join('')}`,
  peers: {},
  setting: { model: basename(modelPath), vocabulary: tokenizer.vocabSize, tokens, answerTokens: ANSWER_TOKENS, threads },
  repeats: [...repeatsOfMasks, ...repeatsOfGaps],
  summary: {
    masks: Object.keys(FORMATS).map((format) => {
      const own = repeatsOfMasks.filter((each) => each.format === format);
      const of = (key: Exclude<keyof MaskTimes, 'format'>) => spread(own.map((each) => each[key]));
      return { format, openMs: of('openMs'), p50Ms: of('p50Ms'), p90Ms: of('p90Ms'), p99Ms: of('p99Ms'), maxMs: of('maxMs') };
    }),
    gaps: {
      freeMs: spread(repeatsOfGaps.map(({ free }) => free.medianMs)),
      heldMs: spread(repeatsOfGaps.map(({ held }) => held.medianMs)),
      ratio: spread(repeatsOfGaps.map(({ free, held }) => held.medianMs / free.medianMs)),
      freeP99Ms: spread(repeatsOfGaps.map(({ free }) => free.p99Ms)),
      heldP99Ms: spread(repeatsOfGaps.map(({ held }) => held.p99Ms)),
    },
  },
});
