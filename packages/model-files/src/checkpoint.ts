import { createHash } from 'node:crypto';
import { createReadStream, existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { fail } from '@causeway/errors';
import { NativeBuffer } from '@causeway/ort';
import { z } from 'zod';
import { configFromGguf, huggingFaceName, PERMUTED_ROPE } from './gguf-config.ts';
import { readGguf } from './gguf.ts';
import { configFromHuggingFace } from './hf-config.ts';
import type { ModelConfig } from './model-config.ts';
import { type LocatedTensor, readSafetensorsHeader } from './safetensors.ts';
import type { TokenizerSource } from './tokenizer-source.ts';
import { ggufTokenizerSource, huggingFaceTokenizerSource } from './tokenizer-source.ts';

/** A tensor as the checkpoint stores it. */
export interface TensorInfo {
  /** Hugging Face's name, also for GGUF. */
  name: string;
  /** F32, F16, BF16, Q4_0, Q4_1, Q8_0, I64, ... */
  type: string;
  /** Outermost dimension first. */
  shape: readonly number[];
  byteLength: number;
}

/** An opened checkpoint: checked tables over mapped files. Disposing it unmaps them. */
export interface Checkpoint extends Disposable {
  readonly format: 'gguf' | 'safetensors';
  readonly name: string;
  readonly config: ModelConfig;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** Q and K rows are permuted for interleaved rotation. */
  readonly ropePermuted: boolean;
  readonly tokenizerSource: TokenizerSource | undefined;
  /** Where a tensor's bytes are: in the mapped file. @throws ServiceError `missing_tensor`. */
  data(name: string): { buffer: NativeBuffer; offset: number; byteLength: number };
  /** SHA-256 of the weight files' bytes, lower-case hex. Reads them once, as a stream. */
  weightsHash(): Promise<string>;
}

interface Shard {
  path: string;
  buffer: NativeBuffer;
}

/**
 * Opens a directory (safetensors, single or sharded, or exactly one .gguf) or a .gguf file.
 * @throws ServiceError `file_unreadable`, `malformed_file`, `unsupported_format`, naming the file and what is wrong in it.
 */
export async function openCheckpoint(path: string): Promise<Checkpoint> {
  const full = resolve(path);
  const stat = statSync(full, { throwIfNoEntry: false });
  if (stat === undefined) fail('not_found', 'file_unreadable', `${path} does not exist`);
  if (stat.isFile()) return openGguf(full);
  const ggufs = readdirSync(full).filter((name) => name.endsWith('.gguf'));
  if (existsSync(join(full, 'config.json'))) return openSafetensors(full);
  if (ggufs.length === 1) return openGguf(join(full, ggufs[0] as string), basename(full));
  fail(
    'invalid_argument',
    'unsupported_format',
    `${path} is no checkpoint: a directory needs config.json with safetensors, or exactly one .gguf file (found ${ggufs.length})`,
  );
}

function openGguf(path: string, name = basename(path, '.gguf')): Checkpoint {
  const buffer = NativeBuffer.mapFile(path);
  try {
    const file = readGguf(path, buffer.bytes());
    const config = configFromGguf(path, file);
    const tensors = file.tensors.map((tensor) => ({
      ...tensor,
      name: huggingFaceName(config.architecture, tensor.name),
      shard: 0,
    }));
    return checkpoint('gguf', name, config, [{ path, buffer }], tensors, {
      ropePermuted: PERMUTED_ROPE.has(config.architecture),
      tokenizerSource: ggufTokenizerSource(file.metadata),
    });
  } catch (error) {
    buffer[Symbol.dispose]();
    throw error;
  }
}

function openSafetensors(dir: string): Checkpoint {
  const config = configFromHuggingFace(
    join(dir, 'config.json'),
    readJson(join(dir, 'config.json')),
    optionalJson(join(dir, 'generation_config.json')),
  );
  const shards: Shard[] = [];
  try {
    const tensors = shardNames(dir).flatMap((name, shard) => {
      const path = join(dir, name);
      const located = readSafetensorsHeader(path);
      shards.push({ path, buffer: NativeBuffer.mapFile(path) });
      return located.map((tensor) => ({ ...tensor, shard }));
    });
    return checkpoint('safetensors', basename(dir), config, shards, tensors, {
      ropePermuted: false,
      tokenizerSource: huggingFaceTokenizerSource(dir),
    });
  } catch (error) {
    for (const shard of shards) shard.buffer[Symbol.dispose]();
    throw error;
  }
}

function shardNames(dir: string): string[] {
  const index = join(dir, 'model.safetensors.index.json');
  if (!existsSync(index)) return ['model.safetensors'];
  const parsed = z.object({ weight_map: z.record(z.string(), z.string()) }).safeParse(readJson(index));
  if (!parsed.success) fail('invalid_argument', 'malformed_file', `${index}: ${z.prettifyError(parsed.error)}`);
  const names = [...new Set(Object.values(parsed.data.weight_map))].sort();
  for (const name of names) {
    if (name !== basename(name) || name.startsWith('.'))
      fail('invalid_argument', 'malformed_file', `${index}: the shard ${name} is not a plain file name`);
    if (!existsSync(join(dir, name))) fail('not_found', 'file_unreadable', `${index}: the shard ${name} is missing`);
  }
  return names;
}

function checkpoint(
  format: Checkpoint['format'],
  name: string,
  config: ModelConfig,
  shards: readonly Shard[],
  located: readonly (LocatedTensor & { shard: number })[],
  more: Pick<Checkpoint, 'ropePermuted' | 'tokenizerSource'>,
): Checkpoint {
  const tensors = new Map<string, LocatedTensor & { shard: number }>();
  for (const tensor of located) {
    if (tensors.has(tensor.name)) fail('invalid_argument', 'malformed_file', `${name}: the tensor ${tensor.name} is there twice`);
    tensors.set(tensor.name, tensor);
  }
  return {
    format,
    name,
    config,
    tensors,
    ...more,
    data: (wanted) => {
      const tensor =
        tensors.get(wanted) ?? fail('invalid_argument', 'missing_tensor', `${name}: the tensor ${wanted} is missing`);
      return { buffer: (shards[tensor.shard] as Shard).buffer, offset: tensor.fileOffset, byteLength: tensor.byteLength };
    },
    weightsHash: async () => {
      const hash = createHash('sha256');
      for (const { path } of shards)
        for await (const chunk of createReadStream(path, { highWaterMark: 1024 * 1024 })) hash.update(chunk as Buffer);
      return hash.digest('hex');
    },
    [Symbol.dispose]: () => {
      for (const { buffer } of shards) buffer[Symbol.dispose]();
    },
  };
}

function optionalJson(path: string): unknown {
  return existsSync(path) ? readJson(path) : undefined;
}

function readJson(path: string): unknown {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    fail('not_found', 'file_unreadable', `cannot open ${path}: ${(cause as Error).message}`, { cause });
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    fail('invalid_argument', 'malformed_file', `${path} is not JSON: ${(cause as Error).message}`, { cause });
  }
}
