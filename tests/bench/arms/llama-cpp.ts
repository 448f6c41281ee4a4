/** llama.cpp through node-llama-cpp's prebuilt binary, which is installed on demand beside the checkout's other state. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const VERSION = '3.22.1';
const FOLDER = resolve(import.meta.dirname, '../../../.causeway/peers/node-llama-cpp');

/** The part of node-llama-cpp's interface that is used here. */
export interface LlamaCpp {
  getLlama(options: { gpu: false; build: 'never'; logLevel: 'error'; maxThreads: number }): Promise<Llama>;
}

interface Llama {
  systemInfo: string;
  llamaCppRelease: { repo: string; release: string };
  loadModel(options: { modelPath: string }): Promise<LlamaModel>;
  dispose(): Promise<void>;
}

interface LlamaModel {
  tokenize(text: string, specialTokens: boolean): number[];
  createContext(options: {
    contextSize: number;
    batchSize: number;
    threads: number;
    flashAttention: boolean;
    experimentalKvCacheKeyType?: 'F32';
    experimentalKvCacheValueType?: 'F32';
  }): Promise<LlamaContext>;
}

interface LlamaContext {
  getSequence(): LlamaSequence;
}

export interface LlamaSequence {
  clearHistory(): Promise<void>;
  evaluateWithoutGeneratingNewTokens(tokens: readonly number[]): Promise<void>;
  evaluate(tokens: readonly number[], options: { temperature: number; yieldEogToken: boolean }): AsyncIterable<number>;
  controlledEvaluate(
    input: readonly (number | [number, object])[],
  ): Promise<({ next: { token: number; logits?: Map<number, number> } } | undefined)[]>;
}

/**
 * Installs node-llama-cpp unless it is there: outside the workspace and its lockfile, without the GPU's binaries and without
 * running its install scripts.
 * @throws Error with npm's message when the registry cannot be reached or has no binary for this platform.
 */
function install(): string {
  const entry = join(FOLDER, 'node_modules/node-llama-cpp/dist/index.js');
  if (existsSync(entry)) return entry;
  console.log(`installing node-llama-cpp ${VERSION} (once) ...`);
  mkdirSync(FOLDER, { recursive: true });
  writeFileSync(join(FOLDER, 'package.json'), '{"private": true}\n');
  const binary = `@node-llama-cpp/linux-${process.arch === 'x64' ? 'x64' : 'arm64'}@${VERSION}`;
  const packages = [`node-llama-cpp@${VERSION}`, binary];
  execFileSync(
    'npm',
    ['install', '--omit=optional', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error', ...packages],
    {
      cwd: FOLDER,
      stdio: ['ignore', 'ignore', 'inherit'],
    },
  );
  return entry;
}

export interface LoadedLlama extends AsyncDisposable {
  /** Package, llama.cpp release and the instructions it uses. */
  version: string;
  sequence: LlamaSequence;
  /** Ids of a text, without the beginning-of-sequence token; with `special` texts of special tokens are those. */
  tokenize(text: string, special: boolean): number[];
}

/** A model loaded for evaluation on the CPU, with one sequence. */
export async function loadLlama(o: {
  modelPath: string;
  threads: number;
  contextSize: number;
  flashAttention: boolean;
  /** KV of float32 instead of f16. */
  floatCache?: boolean;
}): Promise<LoadedLlama> {
  const entry = install();
  const { getLlama } = (await import(pathToFileURL(entry).href)) as LlamaCpp;
  const llama = await getLlama({ gpu: false, build: 'never', logLevel: 'error', maxThreads: o.threads });
  const model = await llama.loadModel({ modelPath: o.modelPath });
  const context = await model.createContext({
    contextSize: o.contextSize,
    batchSize: 512,
    threads: o.threads,
    flashAttention: o.flashAttention,
    ...(o.floatCache === true ? { experimentalKvCacheKeyType: 'F32', experimentalKvCacheValueType: 'F32' } : {}),
  });
  const { version } = JSON.parse(readFileSync(join(FOLDER, 'node_modules/node-llama-cpp/package.json'), 'utf8')) as {
    version: string;
  };
  return {
    version: `node-llama-cpp ${version} (llama.cpp ${llama.llamaCppRelease.release}), flash attention ${o.flashAttention ? 'on' : 'off'}, batches of 512, ${llama.systemInfo.trim()}`,
    sequence: context.getSequence(),
    tokenize: (text, special) => [...model.tokenize(text, special)],
    [Symbol.asyncDispose]: () => llama.dispose(),
  };
}
