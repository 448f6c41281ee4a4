/**
 * Native memory: off the JS heap, at an address that never moves.
 *
 * Invariants
 *  M1  `bytes()` views share one ArrayBuffer per NativeBuffer; nothing is copied.
 *  M2  Memory is unmapped once, and only when no use (`retain`) is in force.
 */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { fail } from '@causeway/errors';
import koffi from 'koffi';
import { library } from './library.ts';

const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_PRIVATE = 2;
const MAP_ANONYMOUS = 0x20;
const MAP_NORESERVE = 0x4000;
const MADV_DONTNEED = 4;
const PAGE = 4096;
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;

const libc = library('libc.so.6');
const mmap = libc.func('void *mmap(void *addr, size_t length, int prot, int flags, int fd, int64_t offset)');
const munmap = libc.func('int munmap(void *addr, size_t length)');
const madvise = libc.func('int madvise(void *addr, size_t length, int advice)');

let live = 0;

/** NativeBuffers that are mapped now. */
export function liveBuffers(): number {
  return live;
}

/** View of native memory by address, for worker threads; its owner must outlive the view. */
export function viewAddress(address: bigint, byteLength: number): Uint8Array {
  return new Uint8Array(koffi.view(address, byteLength));
}

/** A mapped region of native memory. */
export class NativeBuffer implements Disposable {
  readonly address: bigint;
  readonly byteLength: number;
  readonly #base: bigint;
  readonly #mapped: number;
  #view: ArrayBuffer | undefined;
  #uses = 0;
  #disposed = false;

  private constructor(base: bigint, mapped: number, skip: number, byteLength: number) {
    this.#base = base;
    this.#mapped = mapped;
    this.address = base + BigInt(skip);
    this.byteLength = byteLength;
    live++;
  }

  /** Anonymous memory, zero, committed as it is touched. @throws ServiceError `resource_exhausted`. */
  static allocate(byteLength: number): NativeBuffer {
    if (!Number.isSafeInteger(byteLength) || byteLength < 1)
      fail('invalid_argument', 'runtime', `cannot allocate ${byteLength} bytes`);
    return new NativeBuffer(
      map(byteLength, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
      byteLength,
      0,
      byteLength,
    );
  }

  /** Maps `length` bytes of a file from `offset`, copy on write. @throws ServiceError `file_unreadable` or `malformed_file`. */
  static mapFile(path: string, offset = 0, length?: number): NativeBuffer {
    let fd: number;
    try {
      fd = openSync(path, 'r');
    } catch (cause) {
      fail('not_found', 'file_unreadable', `cannot open ${path}: ${(cause as Error).message}`, { cause });
    }
    try {
      const { size } = fstatSync(fd);
      const bytes = length ?? size - offset;
      if (!(offset >= 0 && bytes > 0 && offset + bytes <= size)) {
        fail('invalid_argument', 'malformed_file', `${path} has ${size} bytes; cannot map ${bytes} from ${offset}`);
      }
      const skip = offset % PAGE;
      return new NativeBuffer(
        map(bytes + skip, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd, offset - skip),
        bytes + skip,
        skip,
        bytes,
      );
    } finally {
      closeSync(fd);
    }
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  /** A view of `length` bytes from `offset`; never a copy. @throws ServiceError after disposal or out of range. */
  bytes(offset = 0, length = this.byteLength - offset): Uint8Array {
    this.#check(offset, length);
    this.#view ??= koffi.view(this.#base, this.#mapped);
    return new Uint8Array(this.#view, Number(this.address - this.#base) + offset, length);
  }

  /** Gives whole pages inside the range back to the system; they read as zero afterwards (anonymous memory). */
  discard(offset: number, length: number): void {
    this.#check(offset, length);
    const start = Number(this.address - this.#base) + offset;
    const first = Math.ceil(start / PAGE) * PAGE;
    const end = Math.floor((start + length) / PAGE) * PAGE;
    if (end > first) madvise(this.#base + BigInt(first), end - first, MADV_DONTNEED);
  }

  /** Keeps the memory mapped while native code uses it. Dispose the result to end that. */
  retain(): Disposable {
    this.#check(0, 0);
    this.#uses++;
    let held = true;
    return {
      [Symbol.dispose]: () => {
        if (!held) return;
        held = false;
        this.#uses--;
        this.#unmapIfUnused();
      },
    };
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#unmapIfUnused();
  }

  #check(offset: number, length: number): void {
    if (this.#disposed) fail('failed_precondition', 'runtime', 'native memory was used after it was freed');
    if (!(offset >= 0 && length >= 0 && offset + length <= this.byteLength)) {
      fail('out_of_range', 'runtime', `bytes ${offset}..${offset + length} are outside a buffer of ${this.byteLength}`);
    }
  }

  #unmapIfUnused(): void {
    if (!this.#disposed || this.#uses > 0) return;
    this.#uses = -1;
    this.#view = undefined;
    munmap(this.#base, this.#mapped);
    live--;
  }
}

function map(length: number, prot: number, flags: number, fd: number, offset: number): bigint {
  const address = mmap(null, length, prot, flags, fd, offset) as bigint;
  if (address === null || BigInt.asUintN(64, address) === MAP_FAILED) {
    fail('resource_exhausted', 'runtime', `the system has no ${length} bytes of memory to map`);
  }
  return address;
}
