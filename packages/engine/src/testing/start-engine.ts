/** Real engines over real tiny models, for tests. */
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import {
  type KvDescriptor,
  type KvDtype,
  type KvStorage,
  type KvWireForm,
  layerGroups,
  PagePool,
  wireFormOf,
} from '@causeway/kv';
import { openCheckpoint } from '@causeway/model-files';
import { loadModel, type Precision } from '@causeway/models';
import { Runtime } from '@causeway/ort';
import { createEngine } from '../create-engine.ts';
import type { EngineOptions } from '../options.ts';
import type { Engine, GeneratedToken, Generation, SequencePages } from '../types.ts';

const FOLDERS = {
  llama: '../../../../../shared/goldens/llama',
  deepseek_v3: '../../../../../shared/goldens/deepseek_v3',
  'tiny-moe': '../../../../models/tiny-moe',
  smollm2: '../../../../../shared/models/smollm2-135m-instruct',
};
export type ModelName = keyof typeof FOLDERS;

const folder = (name: ModelName): string => fileURLToPath(new URL(FOLDERS[name], import.meta.url));

/** The checkpoint lies outside the repository and is not there: what needs it is skipped (tests/skips.txt). */
export const absent = (name: ModelName): boolean => !existsSync(folder(name));

export interface GoldenCase {
  prompt: number[];
  greedy: number[];
  lastLogits: number[] | undefined;
}

/** The reference's prompts and greedy answers, in either form of golden.json. */
export function goldenCases(name: ModelName): GoldenCase[] {
  const { cases } = JSON.parse(readFileSync(`${folder(name)}/golden.json`, 'utf8')) as {
    cases: { prompt?: number[]; prompt_ids?: number[]; greedy?: number[]; greedy_ids?: number[]; last_logits?: number[] }[];
  };
  return cases.map((c) => ({
    prompt: c.prompt ?? c.prompt_ids ?? [],
    greedy: c.greedy ?? c.greedy_ids ?? [],
    lastLogits: c.last_logits,
  }));
}

let environment: Runtime | undefined;
/** One ONNX Runtime environment per test process. */
const sharedRuntime = (): Runtime => (environment ??= Runtime.create({ threads: 2 }));

export type TestOptions = Partial<EngineOptions> & {
  precision?: Precision;
  pageCount?: number;
  blockTokens?: number;
  dtype?: KvDtype;
  /** Of pages; default: `dtype`, NHD, unsharded. */
  storage?: KvStorage;
  /** What the graphs round to: what pages hold (true), something else, or nothing (default). */
  rounds?: boolean | KvWireForm;
};

export interface TestEngine extends AsyncDisposable {
  engine: Engine;
  pool: PagePool;
  /** Errors that were the engine's own. */
  errors: unknown[];
}

/** An engine with debug checks on, unless told otherwise. */
export async function startEngine(name: ModelName, options: TestOptions = {}): Promise<TestEngine> {
  const { pageCount = 256, blockTokens = 16, dtype = 'f32', precision = 'exact', rounds = false, ...rest } = options;
  await using stack = new AsyncDisposableStack();
  using checkpoint = await openCheckpoint(folder(name));
  const runtime = options.runtime ?? sharedRuntime();
  const groups = layerGroups(checkpoint.config.layers, options.layerGroups ?? 1);
  const cuts = groups.slice(1).map(({ firstLayer }) => firstLayer);
  const storage: KvStorage = options.storage ?? { dtype, layout: 'NHD' as const, blockTokens, shards: { count: 1, index: 0 } };
  const kvRounding = rounds === true ? wireFormOf(storage) : rounds === false ? undefined : rounds;
  const model = stack.use(
    await loadModel({ checkpoint, precision, cuts, kvRounding, runtime, onDevice: options.provider !== undefined }),
  );
  const descriptor: KvDescriptor = { version: 1, layers: model.layers, storage };
  const pool = stack.use(new PagePool({ descriptor, pageCount }));
  const errors: unknown[] = [];
  const none = '0'.repeat(64);
  const info = {
    name,
    architecture: model.architecture,
    vocabSize: model.vocabSize,
    contextLength: model.contextLength,
    eosTokenIds: checkpoint.config.eosTokenIds,
    fingerprint: { architecture: none, weights: none, tokenizer: none, rope: none, geometry: none },
    descriptor,
  };
  const engine = await createEngine({
    runtime,
    model,
    info,
    pool,
    maxSequences: 4,
    maxContext: 1024,
    chunkTokens: 64,
    debug: { fillNaN: true, checkPages: true },
    hooks: { onError: (error) => errors.push(error) },
    ...rest,
  });
  stack.use(engine);
  const owned = stack.move();
  return { engine, pool, errors, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** A greedy generation of `maxTokens` tokens that ignores end tokens, unless told otherwise. */
export function generation(promptIds: readonly number[], more: Partial<Generation> = {}): Generation {
  return {
    promptIds: Uint32Array.from(promptIds),
    replayIds: new Uint32Array(0),
    maxTokens: 16,
    stopTokenIds: [],
    ignoreEos: true,
    sampling: { temperature: 0, topP: 1, topK: 0, seed: 0n },
    firstPosition: 0,
    ...more,
  };
}

export const never = new AbortController().signal;

/** Reserves, prefills and decodes in one engine: the whole answer. */
export async function generate(engine: Engine, g: Generation, signal: AbortSignal = never): Promise<GeneratedToken[]> {
  const pages = await engine.reserve(engine.room(g), signal);
  return prefillAndDecode(engine, g, pages, signal);
}

async function prefillAndDecode(
  engine: Engine,
  g: Generation,
  pages: SequencePages,
  signal: AbortSignal,
): Promise<GeneratedToken[]> {
  let first: GeneratedToken | undefined;
  try {
    ({ first } = await engine.prefill(g, pages, signal));
  } catch (error) {
    pages[Symbol.dispose]();
    throw error;
  }
  const tokens = first === undefined ? [] : [first];
  for await (const token of engine.decode(g, pages, first, signal)) tokens.push(token);
  return tokens;
}

/** What must be equal in bits: ids, log-probabilities, positions, ends. */
export function bits(tokens: readonly GeneratedToken[]): string {
  return tokens.map((t) => `${t.position}:${t.id}:${t.logprob}${t.finishReason ?? ''}`).join(' ');
}

/** A reproducible stream of numbers in [0, 1) (mulberry32). */
export function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** `count` token ids below `vocabSize`. */
export function randomIds(random: () => number, count: number, vocabSize: number): number[] {
  return Array.from({ length: count }, () => Math.floor(random() * vocabSize));
}
