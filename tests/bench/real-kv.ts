/** KV of a real model and a real text, as some storage keeps it: what codecs and conversions are measured on. */
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { readConfig } from '@causeway/config';
import type { Generation } from '@causeway/engine';
import type { Fingerprint, KvDescriptor } from '@causeway/kv';
import { loadTokenizer, openCheckpoint } from '@causeway/model-files';
import { loadEngine, workerConfig } from '@causeway/worker-runtime';

const ROOT = resolve(import.meta.dirname, '../..');
export const SMOLLM2 = resolve(ROOT, '../shared/models/smollm2-135m-instruct');

export interface RealKv {
  descriptor: KvDescriptor;
  fingerprint: Fingerprint;
  tokens: number;
  /** One for each block of tokens, as the storage keeps it. */
  pages: Uint8Array[];
  /** What computing it took. */
  prefillMs: number;
}

/** The first `tokens` tokens of this project's own pages. @throws Error when they have fewer */
export async function proseTokens(model: string, tokens: number): Promise<number[]> {
  using checkpoint = await openCheckpoint(model);
  if (checkpoint.tokenizerSource === undefined) throw new Error(`${model} has no tokenizer`);
  const text = ['docs/architecture.md', 'docs/wire.md', 'docs/chips.md']
    .map((name) => readFileSync(join(ROOT, name), 'utf8'))
    .join('\n');
  const ids = loadTokenizer(checkpoint.tokenizerSource).encode(text);
  if (ids.length < tokens) throw new Error(`the text has ${ids.length} tokens, not ${tokens}`);
  return ids.slice(0, tokens);
}

/** Reads a prompt; its one token is the likeliest. */
export function readOnly(ids: readonly number[]): Generation {
  return {
    promptIds: Uint32Array.from(ids),
    replayIds: new Uint32Array(0),
    maxTokens: 1,
    stopTokenIds: [],
    ignoreEos: true,
    sampling: { temperature: 0, topP: 1, topK: 0, seed: 0n },
    firstPosition: 0,
  };
}

/** Prefills `tokens` tokens of prose. `env` are settings of a worker: chip, element type, layout. */
export async function realKv(model: string, tokens: number, env: Readonly<Record<string, string>>): Promise<RealKv> {
  const settings = {
    CAUSEWAY_WORKER_ID: 'bench',
    CAUSEWAY_MODEL_PATH: model,
    CAUSEWAY_KV_BUDGET_BYTES: '1GiB',
    CAUSEWAY_MAX_CONTEXT: '4096',
    CAUSEWAY_THREADS: '2',
  };
  const ids = await proseTokens(model, tokens);
  await using loaded = await loadEngine(readConfig(workerConfig, { argv: [], env: { ...settings, ...env } }));
  const { signal } = new AbortController();
  using set = await loaded.engine.reserve(tokens, signal);
  const { prefillMs } = await loaded.engine.prefill(readOnly(ids), set, signal);
  const { descriptor, fingerprint } = loaded.info;
  const blocks = Math.ceil(tokens / descriptor.storage.blockTokens);
  const pages = set.pages.slice(0, blocks).map((page) => loaded.pool.bytes(page).slice());
  return { descriptor, fingerprint, tokens, pages, prefillMs };
}
