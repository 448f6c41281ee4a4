/**
 * Calling C: statuses become errors, asynchronous calls become promises, and what C reads stays where it is.
 *
 * koffi keeps no reference to the arguments of an asynchronous call, and V8 may move or free what nobody refers to. So everything
 * that such a call reads is listed in `inFlight` until it has returned.
 */
import { ServiceError } from '@causeway/errors';
import koffi from 'koffi';
import { api } from './api.ts';
import type { NativeFunction } from './library.ts';

const inFlight = new Set<{ args: readonly unknown[]; keep: unknown }>();

/** Asynchronous calls that have not returned. */
export function callsInFlight(): number {
  return inFlight.size;
}

/** Throws ONNX Runtime's message as ServiceError `runtime` when a call gave a status; the status is released. */
export function check(status: unknown, doing: string): void {
  const message = takeMessage(status);
  if (message !== undefined) throw new ServiceError(`${doing}: ${message}`, { code: 'internal', reason: 'runtime' });
}

/** The message of a status, which is released; undefined for success. */
export function takeMessage(status: unknown): string | undefined {
  if (status === null || status === undefined || status === 0n) return undefined;
  const message = api().GetErrorMessage(status) as string;
  api().ReleaseStatus(status);
  return message;
}

/** Calls a function whose last argument is an out pointer and gives what it made. @throws ServiceError `runtime`. */
export function create(doing: string, call: (out: unknown[]) => unknown): bigint {
  const out: unknown[] = [null];
  check(call(out), doing);
  return out[0] as bigint;
}

/** Reads a count through an out pointer. @throws ServiceError `runtime`. */
export function readCount(doing: string, call: (out: unknown[]) => unknown): number {
  const out: unknown[] = [0];
  check(call(out), doing);
  return Number(out[0]);
}

/**
 * Calls C on libuv's thread pool. The arguments and `keep` stay referenced until it returns.
 * @throws ServiceError `resource_exhausted` when too many calls wait.
 */
export function callAsync(fn: NativeFunction, args: readonly unknown[], keep?: unknown): Promise<unknown> {
  const entry = { args, keep };
  return new Promise((resolve, reject) => {
    inFlight.add(entry);
    const settle = (error: unknown, result: unknown): void => {
      inFlight.delete(entry);
      if (error === null || error === undefined) resolve(result);
      else reject(refused(error));
    };
    try {
      fn.async(...args, settle);
    } catch (error) {
      settle(error, undefined);
    }
  });
}

/** Calls C that frees something on libuv's pool; on this thread, blocking it, when too many calls wait. */
export async function releaseAsync(fn: NativeFunction, args: readonly unknown[]): Promise<void> {
  await callAsync(fn, args).catch(() => void fn(...args));
}

function refused(cause: unknown): ServiceError {
  const message = `a native call was refused: ${(cause as Error).message}`;
  return new ServiceError(message, { code: 'resource_exhausted', reason: 'runtime', retry: 'same', cause });
}

/** An array of pointers that C may read while the object lives: an ArrayBuffer of its own never moves. */
export function pointers(values: readonly bigint[]): BigUint64Array {
  const array = pointerArray(values.length);
  array.set(values);
  return array;
}

/** Room for `length` pointers, zero. */
export function pointerArray(length: number): BigUint64Array {
  return new BigUint64Array(new ArrayBuffer(Math.max(1, length) * 8), 0, length);
}

/** A shape for C. Its own ArrayBuffer: a small typed array would live on the V8 heap and move. */
export function dimensions(shape: readonly number[]): BigInt64Array {
  const dims = new BigInt64Array(pointerArray(shape.length).buffer, 0, shape.length);
  for (const [i, dim] of shape.entries()) dims[i] = BigInt(dim);
  return dims;
}

/** A C string that stays where it is while the object lives. */
export interface CString {
  bytes: Uint8Array;
  address: bigint;
}

/** Copies a text into UTF-8 with a final NUL. */
export function cString(text: string): CString {
  const encoded = new TextEncoder().encode(text);
  const bytes = new Uint8Array(new ArrayBuffer(encoded.length + 1));
  bytes.set(encoded);
  return { bytes, address: koffi.address(bytes) };
}

/** Reads a C string. */
export function readString(address: bigint): string {
  return koffi.decode.string(address);
}
