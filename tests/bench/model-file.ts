/** The model that a benchmark of engines reads. */
import { readdirSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { openCheckpoint } from '@causeway/model-files';

/** The GGUF file in a folder that has one; else the path itself. */
export function modelFile(path: string): string {
  const gguf = statSync(path).isDirectory() ? readdirSync(path).find((name) => name.endsWith('.gguf')) : undefined;
  return resolve(gguf === undefined ? path : join(path, gguf));
}

/** Tokens of its vocabulary. */
export async function vocabSizeOf(modelPath: string): Promise<number> {
  using checkpoint = await openCheckpoint(modelPath);
  return checkpoint.config.vocabSize;
}
