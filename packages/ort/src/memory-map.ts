/** mmap and its kin (glibc, Linux on x64 and arm64: the constants are the same on both). */
import { fail } from '@causeway/errors';
import { libc, type NativeFunction } from './library.ts';
import { callAsync, releaseAsync } from './native-call.ts';

const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_PRIVATE = 2;
const MAP_ANONYMOUS = 0x20;
const MAP_NORESERVE = 0x4000;
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;
const MADV_DONTNEED = 4;
const MADV_HUGEPAGE = 14;
const SC_PAGESIZE = 30;

/** Unmapping this much that was touched takes over a millisecond: off the event loop. */
const LARGE = 16 * 1024 * 1024;

interface Calls {
  mmap: NativeFunction;
  munmap: NativeFunction;
  madvise: NativeFunction;
  trim: NativeFunction;
  pageSize: number;
}

let bound: Calls | undefined;

function calls(): Calls {
  if (bound === undefined) {
    const lib = libc();
    bound = {
      mmap: lib.func('void *mmap(void *addr, size_t length, int prot, int flags, int fd, int64_t offset)'),
      munmap: lib.func('int munmap(void *addr, size_t length)'),
      madvise: lib.func('int madvise(void *addr, size_t length, int advice)'),
      trim: lib.func('int malloc_trim(size_t pad)'),
      pageSize: Number(lib.func('long sysconf(int name)')(SC_PAGESIZE)),
    };
  }
  return bound;
}

/** Bytes of a page. */
export function pageSize(): number {
  return calls().pageSize;
}

/**
 * Maps private memory: zero when `fd` is -1, else the file from `offset` (a multiple of the page size), copy on write.
 * @throws ServiceError `resource_exhausted`.
 */
export function map(length: number, fd: number, offset: number): bigint {
  const flags = MAP_PRIVATE | MAP_NORESERVE | (fd === -1 ? MAP_ANONYMOUS : 0);
  const address = calls().mmap(null, length, PROT_READ | PROT_WRITE, flags, fd, offset) as bigint | null;
  if (address === null || BigInt.asUintN(64, address) === MAP_FAILED) {
    fail('resource_exhausted', 'runtime', `the system cannot map ${length} bytes of memory`);
  }
  return address;
}

/** Gives a mapping back; a large one in the background. Nothing may use the address afterwards. */
export function unmap(address: bigint, length: number): void {
  const { munmap } = calls();
  if (length < LARGE) munmap(address, length);
  else void releaseAsync(munmap, [address, length]);
}

/** Drops the content of whole pages: they read as zero, or as the file, afterwards. */
export function discardPages(address: bigint, length: number): void {
  calls().madvise(address, length, MADV_DONTNEED);
}

/** Asks for pages of 2 MiB where the system has them: touching memory first costs a hundredth then. Only advice: never fails. */
export function preferHugePages(address: bigint, length: number): void {
  calls().madvise(address, length, MADV_HUGEPAGE);
}

/** Gives memory that malloc keeps for later back to the system, off the event loop (about 10 ms per 100 MB). Only saves: never fails. */
export async function trimHeap(): Promise<void> {
  await callAsync(calls().trim, [0]).catch(() => undefined);
}
