import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { ServiceError } from '@causeway/errors';
import { openCheckpoint } from '@causeway/model-files';
import { findArchitecture } from '@causeway/models';

/** What a checkpoint's headers say; no weight is read. */
export interface Inspection {
  readonly format?: 'gguf' | 'safetensors';
  /** As its files call it. */
  readonly architecture?: string;
  /** The type of most of its weights: `Q4_K`, `BF16`. */
  readonly quantisation?: string;
  /** Of its weight files. */
  readonly bytes?: number;
  /** Why it cannot be served. */
  readonly problem?: string;
}

/** Opens a checkpoint and looks at its tables. Never throws: what is wrong is part of the answer. */
export async function inspect(path: string): Promise<Inspection> {
  try {
    using checkpoint = await openCheckpoint(path);
    const { format, architecture } = checkpoint;
    const byType = new Map<string, number>();
    for (const { type, byteLength } of checkpoint.tensors.values()) byType.set(type, (byType.get(type) ?? 0) + byteLength);
    const [most] = [...byType].sort((a, b) => b[1] - a[1]);
    const known = { format, architecture, bytes: weightBytes(path), ...(most === undefined ? {} : { quantisation: most[0] }) };
    return { ...known, ...problemOf(() => findArchitecture(checkpoint)) };
  } catch (error) {
    return { problem: ServiceError.from(error).message };
  }
}

function weightBytes(path: string): number {
  if (statSync(path).isFile()) return statSync(path).size;
  const files = readdirSync(path).filter((name) => /\.(gguf|safetensors)$/.test(name));
  return files.reduce((sum, name) => sum + statSync(join(path, name)).size, 0);
}

function problemOf(check: () => unknown): Pick<Inspection, 'problem'> {
  try {
    check();
    return {};
  } catch (error) {
    return { problem: ServiceError.from(error).message };
  }
}
