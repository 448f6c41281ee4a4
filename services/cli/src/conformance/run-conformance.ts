/** Runs every check on every storage of a chip family. */
import { statSync } from 'node:fs';
import { dirname } from 'node:path';
import { type ChipFamily, chipFamily, chipStorage, type StorageChoice } from '@causeway/chips';
import { ServiceError } from '@causeway/errors';
import { storageName } from '@causeway/kv';
import { loadEngine } from '@causeway/worker-runtime';
import { readGolden } from '../verify/golden.ts';
import { CHECKS, ConformanceFailure, type Subject } from './checks.ts';

export interface ConformanceOptions {
  chip: string;
  emulated: boolean;
  /** Folder of Vulkan's loader and driver, for `webgpu`; default the system's. */
  vulkanDir?: string | undefined;
  /** Checkpoint with golden.json beside it. */
  dir: string;
  threads: number;
  /** The family's default alone, or each of its types, layouts and block lengths. */
  storages: 'default' | 'all';
  onResult?: (result: ConformanceResult) => void;
}

export interface ConformanceResult {
  storage: string;
  check: string;
  ok: boolean;
  /** What was seen, or what is wrong. */
  detail: string;
  seconds: number;
}

const KV_BUDGET_BYTES = 512 * 1024 ** 2;
const MAX_CONTEXT = 1024;
const CHUNK_TOKENS = 64;

/**
 * One result for each storage and check. A check that fails doesn't end the others.
 * @throws ServiceError when the family is unknown, its provider is missing, or the model or its reference can't be read
 */
export async function runConformance(options: ConformanceOptions): Promise<ConformanceResult[]> {
  const { chip, dir } = options;
  const golden = readGolden(statSync(dir, { throwIfNoEntry: false })?.isFile() === true ? dirname(dir) : dir);
  const results: ConformanceResult[] = [];
  for (const choice of choicesOf(chipFamily(chip), options.storages)) {
    const errors: unknown[] = [];
    await using loaded = await loadEngine({
      modelPath: dir,
      chip,
      chipEmulated: options.emulated ? 'on' : 'off',
      vulkanDir: options.vulkanDir,
      threads: options.threads,
      precision: 'exact',
      kvBudgetBytes: KV_BUDGET_BYTES,
      kvDtype: choice.dtype,
      kvLayout: choice.layout,
      blockTokens: choice.blockTokens,
      maxContext: MAX_CONTEXT,
      maxSequences: 2,
      chunkTokens: CHUNK_TOKENS,
      debug: { fillNaN: true, checkPages: true },
      hooks: () => ({ onError: (error) => void errors.push(error) }),
    });
    const subject: Subject = { loaded, golden, errors };
    for (const check of CHECKS) {
      const result = await resultOf(check.name, storageName(loaded.info.descriptor.storage), () => check.run(subject));
      results.push(result);
      options.onResult?.(result);
      errors.length = 0;
    }
  }
  return results;
}

async function resultOf(check: string, storage: string, run: () => Promise<string>): Promise<ConformanceResult> {
  const start = performance.now();
  const since = () => (performance.now() - start) / 1000;
  try {
    return { storage, check, ok: true, detail: await run(), seconds: since() };
  } catch (error) {
    const known = error instanceof ConformanceFailure || error instanceof ServiceError;
    const detail = known ? error.message : `${String(error)}${error instanceof Error ? `: ${error.stack ?? ''}` : ''}`;
    return { storage, check, ok: false, detail, seconds: since() };
  }
}

/** The default, then each other type, layout and block length with the rest as by default. */
function choicesOf(family: ChipFamily, storages: ConformanceOptions['storages']): StorageChoice[] {
  const own: StorageChoice[] = [{}];
  if (storages === 'all') {
    own.push(...family.dtypes.slice(1).map((dtype) => ({ dtype })));
    own.push(...family.layouts.slice(1).map((layout) => ({ layout })));
    own.push(...family.blockTokens.slice(1).map((blockTokens) => ({ blockTokens })));
  }
  for (const choice of own) chipStorage(family, choice);
  return own;
}
