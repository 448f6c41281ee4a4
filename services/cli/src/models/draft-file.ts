/** A file on its way: `NAME.part` until its bytes are all there and hash to what they must, then `NAME`. */
import { type Hash } from 'node:crypto';
import { mkdirSync, statSync } from 'node:fs';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { fail, ServiceError } from '@causeway/errors';
import { beginDigest, type Digest, digestStart } from './digest.ts';

export interface DraftSpec {
  /** Where the finished file will be. */
  readonly path: string;
  readonly size: number;
  readonly digest: Digest;
}

export class DraftFile implements AsyncDisposable {
  readonly spec: DraftSpec;
  readonly #file: FileHandle;
  #hash: Hash;
  #bytes: number;

  private constructor(spec: DraftSpec, file: FileHandle, hash: Hash, bytes: number) {
    this.spec = spec;
    this.#file = file;
    this.#hash = hash;
    this.#bytes = bytes;
  }

  /** Opens it with what an earlier attempt left. */
  static async open(spec: DraftSpec): Promise<DraftFile> {
    const part = partOf(spec.path);
    mkdirSync(dirname(part), { recursive: true });
    const file = await open(part, 'a+');
    const { size } = await file.stat();
    const draft = new DraftFile(spec, file, beginDigest(spec.digest, spec.size), size);
    if (size > spec.size) await draft.restart();
    else await digestStart(draft.#hash, part, size);
    return draft;
  }

  /** Bytes that are there. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Forgets what is there. */
  async restart(): Promise<void> {
    await this.#file.truncate(0);
    this.#hash = beginDigest(this.spec.digest, this.spec.size);
    this.#bytes = 0;
  }

  /** Appends. @throws ServiceError `malformed_file` beyond the size that was announced, `no_capacity` when the disk is full */
  async write(chunk: Uint8Array): Promise<void> {
    const { path, size } = this.spec;
    if (this.#bytes + chunk.byteLength > size)
      fail('data_loss', 'malformed_file', `${path}: more than the ${size} bytes that were announced came`);
    try {
      for (let done = 0; done < chunk.byteLength; ) done += (await this.#file.write(chunk, done)).bytesWritten;
    } catch (error) {
      throw diskError(error, path);
    }
    this.#hash.update(chunk);
    this.#bytes += chunk.byteLength;
  }

  /**
   * Checks the bytes and gives the file its name.
   * @throws ServiceError `checksum` when they are not what they should be; what was there is deleted then
   */
  async finish(source: string): Promise<void> {
    const { path, size, digest } = this.spec;
    const hex = this.#hash.digest('hex');
    if (this.#bytes !== size || hex !== digest.hex) {
      await rm(partOf(path), { force: true });
      fail(
        'data_loss',
        'checksum',
        `${source}: ${this.#bytes} bytes with ${digest.algorithm} ${hex} came, not ${size} with ${digest.hex}: damaged on the way, or not ` +
          'the file that was asked for. Nothing of it is kept; pull again',
      );
    }
    try {
      await this.#file.sync();
    } catch (error) {
      throw diskError(error, path);
    }
    await rename(partOf(path), path);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#file.close();
  }
}

function partOf(path: string): string {
  return `${path}.part`;
}

/** Bytes of a draft, or of the finished file, that are on disk already. */
export function bytesThere(path: string): number {
  for (const candidate of [path, partOf(path)]) {
    const stat = statSync(candidate, { throwIfNoEntry: false });
    if (stat !== undefined) return stat.size;
  }
  return 0;
}

/** Whether an earlier attempt finished the file, and its bytes are those of this version. */
export async function isFinished({ path, size, digest }: DraftSpec): Promise<boolean> {
  if (statSync(path, { throwIfNoEntry: false })?.size !== size) return false;
  const hash = beginDigest(digest, size);
  await digestStart(hash, path, size);
  return hash.digest('hex') === digest.hex;
}

function diskError(error: unknown, path: string): ServiceError {
  const { code, message } = error as NodeJS.ErrnoException;
  const full = code === 'ENOSPC' || code === 'EDQUOT';
  const text = full
    ? `the disk is full: ${path} cannot grow. Make room, or name another folder with CAUSEWAY_MODELS, and pull again: it goes on where it stopped`
    : `cannot write ${path}: ${message}`;
  return new ServiceError(text, {
    code: full ? 'resource_exhausted' : 'failed_precondition',
    reason: full ? 'no_capacity' : 'file_unreadable',
    cause: error,
  });
}
