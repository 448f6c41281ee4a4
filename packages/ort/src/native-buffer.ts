/**
 * Native memory: off the JS heap, at an address that never moves.
 *
 * Invariants
 *  M1  `bytes()` views share one ArrayBuffer per NativeBuffer; nothing is copied.
 *  M2  Memory is unmapped once, and only when it was disposed and no hold (tensor, run, job) is in force.
 *  M3  Before it is unmapped the ArrayBuffer is detached: an old view is then empty, never a way into freed memory.
 *  M4  A buffer that was forgotten is unmapped once neither it nor a view of it can be reached (the last resort, not a way to use it).
 */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { fail } from '@causeway/errors';
import koffi from 'koffi';
import { live } from './diagnostics.ts';
import { Lifetime } from './lifetime.ts';
import { discardPages, map, pageSize, preferHugePages, unmap } from './memory-map.ts';

/** What is mapped: page-aligned, apart from the buffer so that the last resort can free it. */
interface Region {
  base: bigint;
  length: number;
  mapped: boolean;
}

const forgotten = new FinalizationRegistry<Region>(freeRegion);
/** A view alone keeps its buffer reachable (M4). */
const owners = new WeakMap<ArrayBuffer, NativeBuffer>();

/**
 * View of native memory by its address, for worker threads, to which a NativeBuffer cannot be sent. The view does not know when the
 * memory is freed: its owner must hold the buffer until the worker is done with it.
 */
export function viewAddress(address: bigint, byteLength: number): Uint8Array {
  if (address <= 0n || !isLength(byteLength)) {
    fail('invalid_argument', 'runtime', `${byteLength} bytes at address ${address} cannot be viewed`);
  }
  return new Uint8Array(koffi.view(address, byteLength));
}

/** A mapped region of native memory. */
export class NativeBuffer implements Disposable {
  readonly address: bigint;
  readonly byteLength: number;
  /** Whether it shows a file: what is discarded can be read again. */
  readonly ofFile: boolean;
  readonly #region: Region;
  readonly #lifetime: Lifetime;
  #view: ArrayBuffer | undefined;

  private constructor(region: Region, skip: number, byteLength: number, ofFile = false) {
    this.#region = region;
    this.address = region.base + BigInt(skip);
    this.byteLength = byteLength;
    this.ofFile = ofFile;
    this.#lifetime = new Lifetime('native memory', () => this.#free());
    forgotten.register(this, region, this);
    live.buffers++;
    live.mappedBytes += region.length;
  }

  /** Anonymous memory: zero, committed as it is touched; `whole`: all of it will be, in larger pages where there are some. @throws ServiceError `resource_exhausted` or `unsupported_platform`. */
  static allocate(byteLength: number, { whole = false }: { whole?: boolean } = {}): NativeBuffer {
    if (!isLength(byteLength) || byteLength === 0) fail('invalid_argument', 'runtime', `cannot allocate ${byteLength} bytes`);
    const base = map(byteLength, -1, 0);
    if (whole) preferHugePages(base, byteLength);
    return new NativeBuffer({ base, length: byteLength, mapped: true }, 0, byteLength);
  }

  /**
   * Maps `length` bytes of a file from `offset`, by default all that follow. Nothing is read before it is touched; a write stays in
   * this process. The file must not shrink while it is mapped: touching what is gone kills the process.
   * @throws ServiceError `file_unreadable`, or `malformed_file` when the file is not that long.
   */
  static mapFile(path: string, offset = 0, length?: number): NativeBuffer {
    const fd = openFile(path);
    try {
      const stat = fstatSync(fd);
      if (!stat.isFile()) fail('invalid_argument', 'file_unreadable', `${path} is not a regular file`);
      const bytes = length ?? stat.size - offset;
      if (!(isLength(offset) && isLength(bytes) && bytes > 0 && offset + bytes <= stat.size)) {
        fail('invalid_argument', 'malformed_file', `${path} has ${stat.size} bytes; cannot map ${bytes} from ${offset}`);
      }
      const skip = offset % pageSize();
      return new NativeBuffer(
        { base: map(bytes + skip, fd, offset - skip), length: bytes + skip, mapped: true },
        skip,
        bytes,
        true,
      );
    } finally {
      closeSync(fd);
    }
  }

  /** Whether the owner is done with it; it may still be mapped for someone who holds it. */
  get disposed(): boolean {
    return this.#lifetime.ended;
  }

  /** A view of `length` bytes from `offset`; never a copy. Empty once the memory is freed. @throws ServiceError after disposal or out of range. */
  bytes(offset = 0, length = this.byteLength - offset): Uint8Array {
    this.#check(offset, length);
    if (this.#view === undefined || this.#view.detached) {
      this.#view = koffi.view(this.#region.base, this.#region.length);
      owners.set(this.#view, this);
    }
    return new Uint8Array(this.#view, Number(this.address - this.#region.base) + offset, length);
  }

  /** Gives whole pages inside the range back to the system; they read as zero afterwards, or as the file. @throws ServiceError as `bytes`. */
  discard(offset: number, length: number): void {
    this.#check(offset, length);
    const start = Number(this.address - this.#region.base) + offset;
    const first = Math.ceil(start / pageSize()) * pageSize();
    const end = Math.floor((start + length) / pageSize()) * pageSize();
    if (end > first) discardPages(this.#region.base + BigInt(first), end - first);
  }

  /** Keeps the memory mapped while native code uses it, even when it is disposed meanwhile. Dispose the result to end that. */
  retain(): Disposable {
    return this.#lifetime.hold();
  }

  /** Frees the memory, or lets the last holder free it. Idempotent. */
  [Symbol.dispose](): void {
    this.#lifetime.end();
  }

  #check(offset: number, length: number): void {
    this.#lifetime.check();
    if (!(isLength(offset) && isLength(length) && offset + length <= this.byteLength)) {
      fail('out_of_range', 'runtime', `bytes ${offset}..${offset + length} are outside a buffer of ${this.byteLength}`);
    }
  }

  #free(): void {
    // M3: transfer(0) detaches without copying.
    if (this.#view !== undefined && !this.#view.detached) this.#view.transfer(0);
    this.#view = undefined;
    forgotten.unregister(this);
    freeRegion(this.#region);
  }
}

function freeRegion(region: Region): void {
  if (!region.mapped) return;
  region.mapped = false;
  unmap(region.base, region.length);
  live.buffers--;
  live.mappedBytes -= region.length;
}

function isLength(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}

function openFile(path: string): number {
  try {
    return openSync(path, 'r');
  } catch (cause) {
    fail('not_found', 'file_unreadable', `cannot open ${path}: ${(cause as Error).message}`, { cause });
  }
}
