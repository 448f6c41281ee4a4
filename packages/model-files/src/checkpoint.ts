import { readdirSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { fail } from '@causeway/errors';
import { NativeBuffer } from '@causeway/ort';
import { configFromGguf, ggufArchitecture } from './gguf-config.ts';
import { ggufTokenizerSource } from './gguf-tokenizer.ts';
import { readGguf, refuseSplit } from './gguf.ts';
import { configFromHuggingFace, huggingFaceArchitecture, isWrapped } from './hf-config.ts';
import type { ModelConfig } from './model-config.ts';
import { readSafetensorsHeader } from './safetensors.ts';
import { hasSafetensors, readShardTable, type ShardTable } from './safetensors-index.ts';
import { exists, FILE_LIMITS, readJson, regularFile } from './small-file.ts';
import type { LocatedTensor, TensorInfo } from './tensor-info.ts';
import { huggingFaceTokenizerSource, type TokenizerSource } from './tokenizer-source.ts';
import { assertSameFile, type FileIdentity, fileIdentity, hashFiles } from './weights-hash.ts';

/** An opened checkpoint: checked tables over mapped files. Disposing it unmaps them. */
export interface Checkpoint extends Disposable {
  readonly format: 'gguf' | 'safetensors';
  readonly name: string;
  /** By the name that the files give it: `model_type` of config.json, `general.architecture` of GGUF. */
  readonly architecture: string;
  /**
   * What the files say of the model, read when first asked for: whoever knows the architectures first refuses those that don't run.
   * @throws ServiceError `malformed_file` or `unsupported_format`, naming the field.
   */
  readonly config: ModelConfig;
  /** By the names in the files; of a multimodal model's the language model's alone. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly tokenizerSource: TokenizerSource | undefined;
  /**
   * Where a tensor's bytes are: in the mapped file, never a copy.
   * @throws ServiceError `missing_tensor`, or `unsupported_format` when the size of its type is not known.
   */
  data(name: string): { buffer: NativeBuffer; offset: number; byteLength: number };
  /**
   * SHA-256 of the weight files' bytes, lower-case hex; reads them once, in a thread.
   * @throws ServiceError `file_unreadable` when a file is no longer the one that was opened.
   */
  weightsHash(): Promise<string>;
  /** @throws ServiceError `file_unreadable` when a weight file is gone or is not the one that was opened. */
  assertUnchanged(): void;
}

/** A mapped weight file. */
interface Shard {
  identity: FileIdentity;
  buffer: NativeBuffer;
}

type PlacedTensor = LocatedTensor & { shard: number };

/** What a format's files hold. */
interface ReadFiles extends Pick<Checkpoint, 'format' | 'name' | 'architecture' | 'tokenizerSource'> {
  readConfig: () => ModelConfig;
  placed: readonly PlacedTensor[];
}

/**
 * Opens a directory (safetensors, single or sharded, else exactly one .gguf) or a .gguf file.
 * @throws ServiceError `file_unreadable`, `malformed_file`, `unsupported_format`, naming the file and what is wrong in it.
 */
export async function openCheckpoint(path: string): Promise<Checkpoint> {
  const full = resolve(path);
  if (!exists(full)) fail('not_found', 'file_unreadable', `${path} does not exist`);
  const names = listing(full);
  if (names === undefined) {
    if (!full.endsWith('.safetensors')) return openGguf(full, basename(full, '.gguf'));
    fail('invalid_argument', 'unsupported_format', `${path}: give the directory, ${dirname(path)}: config.json is needed too`);
  }
  if (names.includes('config.json') && hasSafetensors(full)) return openSafetensors(full);
  const [gguf, ...others] = names.filter((name) => name.endsWith('.gguf'));
  if (gguf !== undefined && others.length === 0) return openGguf(join(full, gguf), basename(full));
  fail(
    'invalid_argument',
    'unsupported_format',
    `${path} is no checkpoint: a directory needs config.json with model.safetensors (or its index), or exactly one .gguf file ` +
      `(found ${gguf === undefined ? 0 : 1 + others.length})`,
  );
}

/** Names in a directory; undefined when `path` is none. */
function listing(path: string): string[] | undefined {
  try {
    return readdirSync(path);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOTDIR') return undefined;
    fail('not_found', 'file_unreadable', `cannot open ${path}: ${(cause as Error).message}`, { cause });
  }
}

function openGguf(path: string, name: string): Checkpoint {
  return withShards((mapShard) => {
    const { buffer } = mapShard(path);
    const file = readGguf(path, buffer.bytes());
    refuseSplit(path, file);
    return {
      format: 'gguf',
      name,
      architecture: ggufArchitecture(path, file),
      readConfig: () => configFromGguf(path, file),
      tokenizerSource: ggufTokenizerSource(path, file.metadata),
      placed: file.tensors.map((tensor) => ({ ...tensor, shard: 0 })),
    };
  });
}

function openSafetensors(dir: string): Checkpoint {
  return withShards((mapShard) => {
    const configPath = join(dir, 'config.json');
    const generationPath = join(dir, 'generation_config.json');
    const json = readJson(configPath, FILE_LIMITS.config);
    const generation = exists(generationPath) ? readJson(generationPath, FILE_LIMITS.config) : undefined;
    const table = readShardTable(dir);
    const placed = table.files.flatMap((name, shard) => {
      const path = join(dir, name);
      const located = readSafetensorsHeader(path);
      mapShard(path);
      return located.map((tensor) => ({ ...tensor, shard }));
    });
    checkPlaces(dir, table, placed);
    return {
      format: 'safetensors',
      name: basename(dir),
      architecture: huggingFaceArchitecture(configPath, json),
      readConfig: () => configFromHuggingFace(configPath, json, generation),
      tokenizerSource: huggingFaceTokenizerSource(dir),
      placed: isWrapped(json) ? placed.map((tensor) => ({ ...tensor, name: unwrappedName(tensor.name) })) : placed,
    };
  });
}

/** Every tensor of the index must be in the file that the index says. */
function checkPlaces(dir: string, { files, fileOf }: ShardTable, placed: readonly PlacedTensor[]): void {
  if (fileOf === undefined) return;
  const found = new Map(placed.map((tensor) => [tensor.name, files[tensor.shard]]));
  for (const [name, file] of fileOf) {
    if (found.get(name) !== file)
      fail('invalid_argument', 'malformed_file', `${dir}: the index says that ${file} holds the tensor ${name}; it does not`);
  }
}

/** The language model's names inside a multimodal checkpoint (`language_model.model.*`, `model.language_model.*`). */
function unwrappedName(name: string): string {
  if (name.startsWith('language_model.')) return name.slice('language_model.'.length);
  return name.startsWith('model.language_model.') ? `model.${name.slice('model.language_model.'.length)}` : name;
}

/** Builds a checkpoint over the files that `read` maps; unmaps them when it fails. */
function withShards(read: (mapShard: (path: string) => Shard) => ReadFiles): Checkpoint {
  using stack = new DisposableStack();
  const shards: Shard[] = [];
  const { placed, readConfig, ...rest } = read((path) => {
    const identity = fileIdentity(path, regularFile(path));
    const shard = { identity, buffer: stack.use(NativeBuffer.mapFile(path)) };
    shards.push(shard);
    return shard;
  });
  const tensors = new Map<string, PlacedTensor>();
  for (const tensor of placed) {
    if (tensors.has(tensor.name))
      fail('invalid_argument', 'malformed_file', `${rest.name}: the tensor ${tensor.name} is there twice`);
    tensors.set(tensor.name, tensor);
  }
  const owned = stack.move();
  let config: ModelConfig | undefined;
  return {
    ...rest,
    get config() {
      return (config ??= readConfig());
    },
    tensors,
    data: (name) => {
      const tensor =
        tensors.get(name) ?? fail('invalid_argument', 'missing_tensor', `${rest.name}: the tensor ${name} is missing`);
      if (tensor.byteLength === 0 && !tensor.shape.includes(0))
        fail(
          'unimplemented',
          'unsupported_format',
          `${rest.name}: tensor ${name} is stored as ${tensor.type}, which is not supported`,
        );
      return { buffer: (shards[tensor.shard] as Shard).buffer, offset: tensor.fileOffset, byteLength: tensor.byteLength };
    },
    weightsHash: () => hashFiles(shards.map((shard) => shard.identity)),
    assertUnchanged: () => {
      for (const { identity } of shards) assertSameFile(identity);
    },
    [Symbol.dispose]: () => owned.dispose(),
  };
}
