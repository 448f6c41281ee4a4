/** Loads shared libraries through koffi, once per thread, and says which platforms have ONNX Runtime's. */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fail } from '@causeway/errors';
import koffi from 'koffi';

/** Just under 16 MB, koffi's limit: ONNX Runtime's call stacks overflow koffi's default for asynchronous calls. */
const STACK_BYTES = 16 * 1024 * 1024 - 1;

/**
 * How koffi 3.3 runs asynchronous calls (its src/koffi/src/call.cc, ffi.cc; doc/misc.md), and what follows:
 * - They are N-API work on libuv's pool, in the order they were made: UV_THREADPOOL_SIZE of them at once (4 unless the environment
 *   says otherwise), shared with file access, DNS lookups, node:crypto and node:zlib. A run waits for nothing else on that pool (its
 *   operators' threads are ONNX Runtime's), so more runs than threads only wait for one another; but as many long runs as there are
 *   threads keep every other user of the pool waiting.
 * - `max_async_calls` (256, the default) may run or wait per thread of JavaScript; one more throws, and is `resource_exhausted` here.
 * - Every call made gets a stack of its own at once, waiting or not. `resident_async_pools` of them are kept, of which only touched
 *   pages cost memory; others are mapped for the call and unmapped after it. 16 runs side by side took 46 to 51 us each with the
 *   default of 8 and 16 to 18 us with 32, the most there can be (two threads).
 */
const RESIDENT_STACKS = 32;

// Only before the first load; refused afterwards.
koffi.config({ sync_stack_size: STACK_BYTES, async_stack_size: STACK_BYTES, resident_async_pools: RESIDENT_STACKS });

/** A C function, callable on this thread or (`.async`) on libuv's pool. */
export type NativeFunction = ReturnType<ReturnType<typeof koffi.load>['func']>;

type Library = ReturnType<typeof koffi.load>;
const libraries = new Map<string, Library>();

/** Opens a shared library and keeps it for ever: a collected handle would unload it under running code. */
export function library(path: string): Library {
  let handle = libraries.get(path);
  if (handle === undefined) {
    handle = koffi.load(path);
    libraries.set(path, handle);
  }
  return handle;
}

/** glibc. @throws ServiceError `unsupported_platform`. */
export function libc(): Library {
  try {
    return library('libc.so.6');
  } catch (cause) {
    const here = `${process.platform} on ${process.arch}`;
    fail('failed_precondition', 'unsupported_platform', `native memory needs Linux with glibc; this is ${here}`, { cause });
  }
}

/**
 * Functions that the running program has inside and lets others call, by their C declarations.
 * @returns undefined unless it has all of them
 */
export function ownFunctions<T extends Record<string, string>>(declarations: T): Record<keyof T, NativeFunction> | undefined {
  try {
    const own = koffi.load(null);
    const functions = Object.entries(declarations).map(([name, declaration]) => [name, own.func(declaration)] as const);
    return Object.fromEntries(functions) as Record<keyof T, NativeFunction>;
  } catch {
    return undefined;
  }
}

/** Path of the library inside the onnxruntime-node package. @throws ServiceError `unsupported_platform`. */
export function onnxRuntimePath(platform: string = process.platform, arch: string = process.arch): string {
  if (platform !== 'linux' || (arch !== 'x64' && arch !== 'arm64')) {
    const here = `${platform} on ${arch}`;
    fail('failed_precondition', 'unsupported_platform', `ONNX Runtime is bound for linux on x64 and arm64; this is ${here}`);
  }
  const root = dirname(createRequire(import.meta.url).resolve('onnxruntime-node/package.json'));
  const path = join(root, 'bin', 'napi-v6', platform, arch, 'libonnxruntime.so.1');
  if (!existsSync(path)) fail('failed_precondition', 'unsupported_platform', `${path} is missing: install the workspace again`);
  return path;
}
