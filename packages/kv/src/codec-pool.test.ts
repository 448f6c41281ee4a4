import { liveBuffers, NativeBuffer } from '@causeway/ort';
import { crc32c } from '@node-rs/crc32';
import fc from 'fast-check';
import { constants, zstdCompressSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { KvCodec } from './codec.ts';
import { CodecPool } from './codec-pool.ts';
import { kernels } from './kernels.ts';
import { decodeBody, encodeBody } from './part-codec.ts';
import { joinPlanes, planeBufferBytes, planeOffset, splitPlanes } from './plane-split.ts';
import { kvRatio } from './codec-ratio.ts';
import { syntheticKv } from './synthetic-kv.ts';
import { nodeZstd, processZstd } from './zstd.ts';

describe('byte planes', () => {
  test('hold byte p of every number, rotated left by one bit, in plane p, and come back', () => {
    fc.assert(
      fc.property(fc.constantFrom(2 as const, 4 as const), fc.uint8Array({ maxLength: 300 }), (size, bytes) => {
        const raw = bytes.slice(0, Math.floor(bytes.length / size) * size);
        const thread = kernels();
        const [rawAt, planesAt] = thread.areas(raw.length, planeBufferBytes(raw.length, size));
        thread.put(raw, rawAt);
        splitPlanes(rawAt, planesAt, raw.length, size);
        const planes = thread.view(planesAt, planeBufferBytes(raw.length, size));
        for (let element = 0; element < raw.length / size; element++) {
          const number = Buffer.from(raw).readUIntLE(element * size, size);
          const rotated = ((number * 2) % 2 ** (8 * size)) + Math.floor(number / 2 ** (8 * size - 1));
          for (let plane = 0; plane < size; plane++) {
            expect(planes[planeOffset(plane, raw.length / size) + element]).toBe(Math.floor(rotated / 256 ** plane) % 256);
          }
        }
        thread.view(rawAt, raw.length).fill(0);
        joinPlanes(planesAt, rawAt, raw.length, size);
        expect(Buffer.compare(thread.view(rawAt, raw.length), raw)).toBe(0);
      }),
    );
  });
});

describe('bodies', () => {
  test.each(['zstd', 'planes+zstd'] as const)('%s decodes to what was encoded, whatever the bytes', (codec) => {
    fc.assert(
      fc.property(
        fc.constantFrom(2 as const, 4 as const),
        fc.uint8Array({ minLength: 4, maxLength: 600 }),
        fc.nat(40),
        (size, seed, repeat) => {
          const raw = Buffer.concat(Array.from({ length: 1 + repeat }, () => seed.slice(0, seed.length & ~3)));
          const out = new Uint8Array(raw.length);
          const bytes = encodeBody(codec, [raw], size, out);
          if (bytes === undefined) return;
          expect(bytes).toBeLessThan(raw.length);
          const back = decodeBody(codec, out.subarray(0, bytes), raw.length, size);
          expect(Buffer.compare(back, raw)).toBe(0);
        },
      ),
    );
  });

  test('hostile bodies throw malformed_frame and never more', () => {
    const raw = syntheticKv('bf16', 4096);
    const good = new Uint8Array(raw.length);
    const length = encodeBody('planes+zstd', [raw], 2, good) ?? expect.fail();
    const mutation = fc.record({ at: fc.nat(length - 1), value: fc.nat(255), cut: fc.nat(length) });
    fc.assert(
      fc.property(mutation, fc.constantFrom('zstd' as const, 'planes+zstd' as const), ({ at, value, cut }, codec) => {
        const body = good.slice(0, length - (cut % 7 === 0 ? cut : 0));
        if (at < body.length) body[at] = value;
        try {
          decodeBody(codec, body, raw.length, 2);
        } catch (error) {
          expect(error).toMatchObject({ reason: 'malformed_frame' });
        }
      }),
      { numRuns: 300 },
    );
  });

  test('a bomb is stopped at the size that the header says', () => {
    const bomb = zstdCompressSync(new Uint8Array(64 << 20));
    expect(bomb.length).toBeLessThan(20_000);
    expect(() => decodeBody('zstd', bomb, 4096, 2)).toThrow(/more than 4096/);
  });

  test('a body that asks for a huge window is refused', () => {
    const wide = zstdCompressSync(syntheticKv('f32', 32 << 20), {
      params: { [constants.ZSTD_c_windowLog]: 25, [constants.ZSTD_c_compressionLevel]: 1, [constants.ZSTD_c_contentSizeFlag]: 0 },
    });
    expect(() => decodeBody('zstd', wide, 32 << 20, 4)).toThrow(/zstd refuses/);
  });
});

describe.each([
  ['node:zlib', nodeZstd],
  ['the functions of this process', processZstd() ?? expect.fail('this Node lets nobody call its zstd')],
] as const)('zstd by %s', (_, zstd) => {
  test.each(['whole', 'plane'] as const)('%s: frames are read by the other one, and end where there is no room', (input) => {
    const kv = syntheticKv('bf16', 1 << 16).filter((_byte, i) => i % 2 === 1);
    const frame = new Uint8Array(kv.length);
    const size = zstd.compress(input, kv, frame) ?? expect.fail();
    expect(size).toBeLessThan(0.8 * kv.length);
    for (const other of [nodeZstd, processZstd() ?? expect.fail()]) {
      const back = new Uint8Array(kv.length);
      expect(other.decompress(frame.subarray(0, size), back)).toBe(kv.length);
      expect(Buffer.compare(back, kv)).toBe(0);
      expect(other.decompress(frame.subarray(0, size), new Uint8Array(kv.length - 1))).toBeUndefined();
      expect(other.decompress(frame.subarray(1, size), back)).toBeUndefined();
      expect(other.decompress(frame.subarray(0, size - 1), back)).toBeUndefined();
    }
    expect(zstd.compress(input, kv, new Uint8Array(size - 1))).toBeUndefined();
  });
});

describe('CodecPool', () => {
  let pool: CodecPool;
  beforeAll(() => {
    pool = new CodecPool({ threads: 2 });
  });
  afterAll(() => pool[Symbol.asyncDispose]());

  test.each(['none', 'zstd', 'planes+zstd'] as const)(
    '%s: scattered runs in, scattered runs out, checksums agree',
    async (codec: KvCodec) => {
      using buffer = NativeBuffer.allocate(1 << 20);
      const region = pool.register(buffer);
      const half = syntheticKv('bf16', 50_000);
      buffer.bytes(128, 50_000).set(half);
      buffer.bytes(100_000, 50_000).set(half);
      const raw = [
        { region, offset: 128, length: 50_000 },
        { region, offset: 100_000, length: 50_000 },
      ];
      const out = { region, offset: 200_000, length: 100_000 };
      const part = await pool.encode({ codec, elementBytes: 2, raw, out });
      expect(part.codec).toBe(codec);
      expect(part.rawCrc).toBe(crc32c(Buffer.concat([half, half])));
      expect(part.bodyCrc).toBe(crc32c(buffer.bytes(200_000, part.encodedBytes)));
      if (codec !== 'none') expect(part.encodedBytes).toBeLessThan(100_000);
      const body = { ...out, length: part.encodedBytes };
      const target = [
        { region, offset: 400_001, length: 1 },
        { region, offset: 500_000, length: 99_999 },
      ];
      await pool.decode({ codec, elementBytes: 2, body, rawCrc: part.rawCrc, raw: target });
      const back = Buffer.concat([buffer.bytes(400_001, 1), buffer.bytes(500_000, 99_999)]);
      expect(Buffer.compare(back, Buffer.concat([half, half]))).toBe(0);
      pool.unregister(region);
    },
  );

  test('a wrong checksum leaves the target untouched', async () => {
    using buffer = NativeBuffer.allocate(300_000);
    const region = pool.register(buffer);
    buffer.bytes(0, 100_000).set(syntheticKv('f32', 100_000));
    const raw = [{ region, offset: 0, length: 100_000 }];
    for (const codec of ['none', 'planes+zstd'] as const) {
      const part = await pool.encode({ codec, elementBytes: 4, raw, out: { region, offset: 100_000, length: 100_000 } });
      const body = { region, offset: 100_000, length: part.encodedBytes };
      const target = [{ region, offset: 200_000, length: 100_000 }];
      await expect(pool.decode({ codec, elementBytes: 4, body, rawCrc: part.rawCrc ^ 1, raw: target })).rejects.toMatchObject({
        reason: 'checksum',
      });
      expect(buffer.bytes(200_000, 100_000).every((byte: number) => byte === 0)).toBe(true);
    }
    pool.unregister(region);
  });

  test('incompressible bytes go raw', async () => {
    using buffer = NativeBuffer.allocate(200_000);
    const region = pool.register(buffer);
    crypto.getRandomValues(buffer.bytes(0, 60_000));
    for (const codec of ['zstd', 'planes+zstd'] as const) {
      const part = await pool.encode({
        codec,
        elementBytes: 2,
        raw: [{ region, offset: 0, length: 60_000 }],
        out: { region, offset: 100_000, length: 60_000 },
      });
      expect(part).toMatchObject({ codec: 'none', encodedBytes: 60_000 });
    }
    pool.unregister(region);
  });

  test('disposal waits for running jobs, so memory may go', async () => {
    const before = liveBuffers();
    const other = new CodecPool({ threads: 1 });
    const buffer = NativeBuffer.allocate(8 << 20);
    const region = other.register(buffer);
    buffer.bytes(0, 4 << 20).set(syntheticKv('bf16', 4 << 20));
    const jobs = Array.from({ length: 3 }, () =>
      other.encode({
        codec: 'planes+zstd',
        elementBytes: 2,
        raw: [{ region, offset: 0, length: 4 << 20 }],
        out: { region, offset: 4 << 20, length: 4 << 20 },
      }),
    );
    await other[Symbol.asyncDispose]();
    buffer[Symbol.dispose]();
    await expect(Promise.all(jobs)).resolves.toHaveLength(3);
    expect(liveBuffers()).toBe(before);
    await expect(
      other.encode({ codec: 'zstd', elementBytes: 2, raw: [], out: { region, offset: 0, length: 1 } }),
    ).rejects.toThrow(/disposed/);
  });
});

test('planes beat plain zstd on numbers like KV', () => {
  for (const dtype of ['f32', 'bf16'] as const) {
    const ratio = kvRatio(syntheticKv(dtype, 1 << 20), dtype);
    expect(ratio['planes+zstd']).toBeGreaterThan(ratio.zstd);
    expect(ratio['planes+zstd']).toBeGreaterThan(dtype === 'bf16' ? 1.35 : 1.12);
  }
});
