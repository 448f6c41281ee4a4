/** What the evidence tests share: the two models, attempts over a cluster, the same generation in an engine alone, counters. */
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { readConfig } from '@causeway/config';
import type { Generation } from '@causeway/engine';
import { loadTokenizer, openCheckpoint } from '@causeway/model-files';
import type { workerV1 } from '@causeway/proto';
import { type ChannelPool, createChannelPool } from '@causeway/rpc';
import {
  type AttemptGeneration,
  type AttemptOptions,
  type AttemptResult,
  type Cluster,
  type ClusterOptions,
  type ClusterWorker,
  completeGeneration,
  eventually,
  runAttempt,
  scrape,
  startCluster,
} from '@causeway/testkit';
import { loadEngine, type LoadedEngine, workerConfig } from '@causeway/worker-runtime';
import { vi } from 'vitest';

// Starting processes takes seconds, and on a busy machine many: nothing here waits for a time, but all of it may take one.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 240_000 });

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));

/** DeepSeek-V3 architecture: MLA, rank 48 and rope 16, 5 layers. */
export const TINY_MOE = `${ROOT}models/tiny-moe`;
/** Llama architecture: GQA, 3 KV heads of 64, 30 layers. */
export const SMOLLM2 = fileURLToPath(new URL('../../../../shared/models/smollm2-135m-instruct', import.meta.url));
/** Tests whose name ends in `needsSmollm2` are skipped without it. */
export const withoutSmollm2 = !existsSync(SMOLLM2);
export const needsSmollm2 = '(needs ../shared/models/smollm2-135m-instruct)';

/** The model name of every cluster here. */
export const MODEL = 'under-test';

/** Keeps a worker's address space small; results don't depend on it. */
export const SMALL_MEMORY = { CAUSEWAY_KV_BUDGET_BYTES: '1GiB', CAUSEWAY_MAX_CONTEXT: '2048' } as const;

/** A cluster with a channel pool of its own; `attempt` drives one attempt over two of its workers. */
export interface TestCluster extends Pick<Cluster, 'nats' | 'redis' | 'worker' | 'startWorker' | 'router'>, AsyncDisposable {
  channels: ChannelPool;
  /** Default workers: prefill-1 and decode-1. `local` leaves the prefill to the decode worker. */
  attempt(
    generation: AttemptGeneration,
    options?: { prefill?: string; decode?: string; local?: boolean } & Pick<
      AttemptOptions,
      'signal' | 'onEvent' | 'requestId' | 'computeOrder'
    >,
  ): Promise<AttemptResult>;
}

export async function startTestCluster(options: ClusterOptions): Promise<TestCluster> {
  await using stack = new AsyncDisposableStack();
  const cluster = stack.use(
    await startCluster({ modelName: MODEL, ...options, workerEnv: { ...SMALL_MEMORY, ...options.workerEnv } }),
  );
  const channels = stack.use(createChannelPool());
  const owned = stack.move();
  return {
    nats: cluster.nats,
    redis: cluster.redis,
    worker: cluster.worker,
    get router() {
      return cluster.router;
    },
    startWorker: cluster.startWorker,
    channels,
    attempt: (generation, { prefill = 'prefill-1', decode = 'decode-1', local = false, ...rest } = {}) =>
      runAttempt({
        channels,
        model: MODEL,
        ...(local ? {} : { prefill: cluster.worker(prefill).address }),
        decode: cluster.worker(decode).address,
        generation,
        ...rest,
      }),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** The engine of a worker with this environment, in this process: same model, threads, chunks and storage, no cluster. */
export function engineAlone(modelPath: string, env: Readonly<Record<string, string>> = {}): Promise<LoadedEngine> {
  return loadEngine(
    readConfig(workerConfig, {
      argv: [],
      env: { CAUSEWAY_WORKER_ID: 'alone', CAUSEWAY_MODEL_PATH: modelPath, ...SMALL_MEMORY, ...env },
    }),
  );
}

/** A token and the bits of the logits that it was chosen from. */
export interface Chosen {
  id: number;
  logits: Buffer;
}

/** What the worker protocol's generation means to an engine. */
export function engineGeneration(generation: AttemptGeneration): Generation {
  const { constraint: _, ...complete } = completeGeneration(generation);
  const { temperature, topP, topK, seed } = complete.sampling!;
  return {
    ...complete,
    promptIds: Uint32Array.from(complete.promptIds),
    replayIds: Uint32Array.from(complete.replayIds),
    // On the wire 0 stands for what isn't set; the engine wants it left out.
    sampling: { temperature, topP, topK, seed },
  };
}

/** Answers in an engine alone: prefill, then decode over the same pages. */
export async function answerAlone({ engine }: LoadedEngine, of: AttemptGeneration): Promise<Chosen[]> {
  const generation = engineGeneration({ ...of, returnLogits: true });
  const signal = new AbortController().signal;
  using pages = await engine.reserve(engine.room(generation), signal);
  const { first } = await engine.prefill(generation, pages, signal);
  const tokens = first === undefined ? [] : [first];
  for await (const token of engine.decode(generation, pages, first, signal)) tokens.push(token);
  return tokens.map(({ id, logits }) => ({ id, logits: Buffer.from(logits!.buffer, logits!.byteOffset, logits!.byteLength) }));
}

/** Tokens and logits of an attempt that returned them. */
export function chosen(result: AttemptResult): Chosen[] {
  return result.tokens.map(({ id, logits }) => ({ id, logits: Buffer.from(logits) }));
}

/** The first token whose id or logits differ in any bit; undefined when all are equal. */
export function firstDifference(a: readonly Chosen[], b: readonly Chosen[]): string | undefined {
  if (a.length !== b.length) return `${a.length} tokens, ${b.length} tokens`;
  for (const [i, left] of a.entries()) {
    const right = b[i]!;
    if (left.id !== right.id) return `token ${i} is ${left.id}, ${right.id}`;
    if (left.logits.length === 0) return `token ${i} came without logits`;
    if (!left.logits.equals(right.logits)) return `logits of token ${i}: largest distance ${distance(left, right)}`;
  }
  return undefined;
}

/** Largest distance between two rows of logits. */
export function distance(a: Chosen, b: Chosen): number {
  const [left, right] = [rowOf(a), rowOf(b)];
  return left.reduce((largest, value, i) => Math.max(largest, Math.abs(value - right[i]!)), 0);
}

export function rowOf({ logits }: Chosen): Float32Array {
  return new Float32Array(new Uint8Array(logits).buffer);
}

export function ids(tokens: readonly workerV1.Token[]): number[] {
  return tokens.map((token) => token.id);
}

export async function freePages(worker: Pick<ClusterWorker, 'observability'>): Promise<number> {
  return (await scrape(worker))('causeway_kv_pages', { state: 'free' });
}

/** Waits until every page of a worker is free and nothing runs or waits there. */
export async function idle(worker: ClusterWorker, timeoutMs = 60_000): Promise<void> {
  await eventually(
    async () => {
      const metric = await scrape(worker);
      const busy =
        metric('causeway_kv_pages', { state: 'used' }) +
        metric('vllm:num_requests_running') +
        metric('vllm:num_requests_waiting');
      if (busy !== 0) throw new Error(`${busy} pages and requests are not free`);
      return true;
    },
    { timeoutMs, what: `${worker.id} idle` },
  );
}

/** Waits until a process that was started with this failpoint and folder is held there. */
export async function heldAt(folder: string, failpoint: string, worker: ClusterWorker): Promise<void> {
  const hit = `${folder}/${failpoint}.${worker.process.pid}.hit`;
  await eventually(() => existsSync(hit), { timeoutMs: 60_000, intervalMs: 5, what: `${worker.id} at ${failpoint}` });
}

/** Lets go who is held at a failpoint. */
export async function release(folder: string, failpoint: string): Promise<void> {
  await writeFile(`${folder}/${failpoint}.go`, '');
}

interface GoldenCase {
  prompt_ids: number[];
  greedy_ids: number[];
}

/** Prompts of a model's reference file, shortest first. */
export async function goldenPrompts(modelPath: string): Promise<number[][]> {
  const { cases } = JSON.parse(await readFile(`${modelPath}/golden.json`, 'utf8')) as { cases: GoldenCase[] };
  return cases.map((entry) => entry.prompt_ids).sort((a, b) => a.length - b.length);
}

/** The first `tokens` token ids of English prose (the model's licence text), as SmolLM2 reads it. */
export async function prose(tokens: number): Promise<number[]> {
  using checkpoint = await openCheckpoint(SMOLLM2);
  const encoded = loadTokenizer(checkpoint.tokenizerSource!).encode(await readFile(`${SMOLLM2}/LICENSE`, 'utf8'));
  if (encoded.length < tokens) throw new Error(`the text has ${encoded.length} tokens, not ${tokens}`);
  return encoded.slice(0, tokens);
}
