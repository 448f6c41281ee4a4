import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { diagnostics, NativeBuffer, viewAddress } from './index.ts';

const folder = mkdtempSync(join(tmpdir(), 'ort-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe('allocated memory', () => {
  test('is zero, keeps its address and is seen through one ArrayBuffer', () => {
    using buffer = NativeBuffer.allocate(10_000);
    expect(buffer.bytes().every((byte) => byte === 0)).toBe(true);
    buffer.bytes(5000, 10).fill(7);
    expect([...buffer.bytes(4999, 12)]).toEqual([0, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 0]);
    expect(buffer.bytes(1).buffer).toBe(buffer.bytes(2).buffer);
    expect(buffer.bytes().byteLength).toBe(10_000);
  });

  test('may be larger than the machine has: it costs only what is touched', () => {
    using buffer = NativeBuffer.allocate(2 ** 38);
    buffer.bytes(2 ** 38 - 1, 1)[0] = 9;
    expect(buffer.bytes()[2 ** 38 - 1]).toBe(9);
  });

  test.each([0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 60])('of %d bytes is refused', (bytes) => {
    expect(() => NativeBuffer.allocate(bytes)).toThrow(expect.objectContaining({ name: 'ServiceError', reason: 'runtime' }));
  });

  test('more than the address space is a clear error', () => {
    expect(() => NativeBuffer.allocate(2 ** 52)).toThrow(
      expect.objectContaining({ code: 'resource_exhausted', message: `the system cannot map ${2 ** 52} bytes of memory` }),
    );
  });

  test('is zero again where it was discarded, whole pages only', () => {
    using buffer = NativeBuffer.allocate(4 * 65_536);
    buffer.bytes().fill(1);
    buffer.discard(10, 3 * 65_536);
    const bytes = buffer.bytes();
    expect([bytes[0], bytes[10], bytes[65_536], bytes[2 * 65_536], bytes.at(-1)]).toEqual([1, 1, 0, 0, 1]);
  });

  test('every range is either inside and exact, or refused', () => {
    using buffer = NativeBuffer.allocate(4096);
    buffer.bytes().forEach((_, i, bytes) => {
      bytes[i] = i % 251;
    });
    const edge = fc.oneof(fc.integer({ min: -5, max: 4100 }), fc.double(), fc.constant(2 ** 53));
    fc.assert(
      fc.property(edge, edge, (offset, length) => {
        const inside =
          Number.isInteger(offset) && Number.isInteger(length) && offset >= 0 && length >= 0 && offset + length <= 4096;
        if (inside) {
          const bytes = buffer.bytes(offset, length);
          expect(bytes.length).toBe(length);
          if (length > 0) expect(bytes[0]).toBe(Math.abs(offset % 251));
        } else {
          expect(() => buffer.bytes(offset, length)).toThrow(expect.objectContaining({ code: 'out_of_range' }));
          expect(() => buffer.discard(offset, length)).toThrow(expect.objectContaining({ code: 'out_of_range' }));
        }
      }),
    );
  });
});

describe('a mapped file', () => {
  const path = join(folder, 'weights');
  const content = Uint8Array.from({ length: 100_000 }, (_, i) => i % 253);
  writeFileSync(path, content);

  test('is the file, whole or from any offset, not only from pages', () => {
    using whole = NativeBuffer.mapFile(path);
    expect(Buffer.compare(whole.bytes(), content)).toBe(0);
    using part = NativeBuffer.mapFile(path, 12_345, 678);
    expect(Buffer.compare(part.bytes(), content.subarray(12_345, 13_023))).toBe(0);
    using rest = NativeBuffer.mapFile(path, 99_999);
    expect([...rest.bytes()]).toEqual([99_999 % 253]);
  });

  test('takes writes that stay in this process', () => {
    using mapped = NativeBuffer.mapFile(path);
    mapped.bytes().fill(0, 0, 100);
    expect(Buffer.compare(readFileSync(path), content)).toBe(0);
    mapped.discard(0, mapped.byteLength);
    expect(mapped.bytes()[1]).toBe(1);
  });

  test.each([
    ['past the end', 0, 100_001],
    ['from past the end', 100_001, 1],
    ['from a negative offset', -1, 10],
    ['of no bytes', 0, 0],
    ['of half a byte', 0, 0.5],
    ['of 2^53 bytes', 0, 2 ** 53],
  ])('%s is refused', (_, offset, length) => {
    expect(() => NativeBuffer.mapFile(path, offset, length)).toThrow(expect.objectContaining({ reason: 'malformed_file' }));
  });

  test('that is missing, empty or a folder is refused by name', () => {
    const empty = join(folder, 'empty');
    writeFileSync(empty, '');
    const missing = join(folder, 'missing');
    expect(() => NativeBuffer.mapFile(missing)).toThrow(
      expect.objectContaining({ code: 'not_found', message: expect.stringContaining(missing) }),
    );
    expect(() => NativeBuffer.mapFile(empty)).toThrow(
      expect.objectContaining({ message: expect.stringContaining('has 0 bytes') }),
    );
    expect(() => NativeBuffer.mapFile(folder)).toThrow(expect.objectContaining({ message: `${folder} is not a regular file` }));
  });
});

describe('the end of a buffer', () => {
  test('comes once; using it afterwards throws, and old views are empty', () => {
    const before = diagnostics();
    const buffer = NativeBuffer.allocate(1 << 20);
    const view = buffer.bytes(100, 50);
    view[0] = 3;
    buffer[Symbol.dispose]();
    buffer[Symbol.dispose]();
    expect(buffer.disposed).toBe(true);
    expect([view.length, view[0]]).toEqual([0, undefined]);
    const gone = expect.objectContaining({
      code: 'failed_precondition',
      message: 'native memory was used after it was disposed',
    });
    expect(() => buffer.bytes()).toThrow(gone);
    expect(() => buffer.discard(0, 1)).toThrow(gone);
    expect(() => buffer.retain()).toThrow(gone);
    expect(diagnostics()).toEqual(before);
  });

  test('waits for whoever holds the memory', () => {
    const before = diagnostics().mappedBytes;
    const buffer = NativeBuffer.allocate(1 << 20);
    const [one, two] = [buffer.retain(), buffer.retain()];
    const view = buffer.bytes();
    view[0] = 5;
    buffer[Symbol.dispose]();
    one[Symbol.dispose]();
    one[Symbol.dispose]();
    expect([view[0], diagnostics().mappedBytes]).toEqual([5, before + (1 << 20)]);
    two[Symbol.dispose]();
    expect([view.length, diagnostics().mappedBytes]).toEqual([0, before]);
  });

  test('of a large one gives the memory back without blocking', async () => {
    const resident = (): number => Number(/VmRSS:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) * 1024;
    const bytes = 256 << 20;
    const buffer = NativeBuffer.allocate(bytes);
    buffer.bytes().fill(1);
    const touched = resident();
    buffer[Symbol.dispose]();
    await expect.poll(() => diagnostics().callsInFlight).toBe(0);
    expect(touched - resident()).toBeGreaterThan(bytes * 0.8);
  });

  test('comes by itself for one that was forgotten, but not while a view of it is left', async () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const before = diagnostics().buffers;
    const views = [make(true)];
    make(false);
    await expect
      .poll(async () => {
        collect();
        await setImmediate();
        return diagnostics().buffers;
      })
      .toBe(before + 1);
    for (let i = 0; i < 3; i++) {
      collect();
      await setImmediate();
    }
    expect(views[0]?.[4000]).toBe(11);
    views.length = 0;
    await expect
      .poll(async () => {
        collect();
        await setImmediate();
        return diagnostics().buffers;
      })
      .toBe(before);
  });
});

/** Allocates where the caller's frame keeps no reference to the buffer. */
function make(viewed: boolean): Uint8Array {
  const bytes = NativeBuffer.allocate(1 << 16)
    .bytes()
    .fill(11);
  return viewed ? bytes : new Uint8Array();
}

test('a worker thread reads and writes the same memory by its address', async () => {
  using buffer = NativeBuffer.allocate(1000);
  buffer.bytes().fill(2);
  const worker = new Worker(new URL('./testing/sum-worker.ts', import.meta.url), {
    workerData: { address: buffer.address, byteLength: 1000 },
  });
  const [sum] = (await once(worker, 'message')) as [number];
  await once(worker, 'exit');
  expect(sum).toBe(2000);
  expect(buffer.bytes().every((byte) => byte === 3)).toBe(true);
});

test('a view of no address or no length is refused', () => {
  for (const [address, bytes] of [
    [0n, 10],
    [-1n, 10],
    [4096n, -1],
    [4096n, Number.NaN],
  ] as const) {
    expect(() => viewAddress(address, bytes)).toThrow(expect.objectContaining({ code: 'invalid_argument' }));
  }
});
