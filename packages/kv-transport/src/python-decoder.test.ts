/** Recorded frames are read by a Python script that knows docs/wire.md alone. */
import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32c } from '@node-rs/crc32';
import { eventually, startNats } from '@causeway/testkit';
import { describe, expect, test } from 'vitest';
import { partsDigest } from './codec-tally.ts';
import { decodeFrames, python } from './test-python.ts';
import { makeDescriptor, makeWorker, smoothKv } from './test-workers.ts';

describe.skipIf(!python)('decode_frames.py (python3)', () => {
  test('reads what a sender published, byte for byte, and finds a flipped bit', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'causeway-frames-'));
    try {
      await using nats = await startNats({ maxPayload: 65_536 });
      const descriptor = makeDescriptor(
        [
          { kind: 'full', kvHeads: 3, headDimK: 64, headDimV: 64 },
          { kind: 'latent', rank: 512, ropeDim: 64 },
        ],
        'bf16',
        256,
      );
      const file = join(folder, 'frames');
      const sender = await makeWorker({
        servers: nats.url,
        workerId: 'p0',
        codec: 'none',
        descriptor,
        pages: 3,
        recordFrames: file,
      });
      await using receiver = await makeWorker({ servers: nats.url, workerId: 'd0', codec: 'none', descriptor, pages: 3 });
      using from = sender.pool.reserve(3) ?? expect.fail();
      using to = receiver.pool.reserve(3) ?? expect.fail();
      for (const page of from.pages) smoothKv(sender.pool.bytes(page), 'bf16', page + 3);
      const signal = new AbortController().signal;
      const inbound = receiver.endpoint.receive({ pages: to, tokens: 768, deadlineMs: 10_000, signal });
      const stats = await sender.endpoint.send({ ticket: inbound.ticket, pages: from, signal }).finish({});
      await inbound.committed;
      await eventually(() => to.state === 'committed' || undefined, { what: 'commit' });
      const pages = from.pages.map((page) => Buffer.from(sender.pool.bytes(page)));
      await sender.endpoint[Symbol.asyncDispose]();
      const report = await decodeFrames(file, sender.pool.pageBytes);
      expect(report.problems).toEqual([]);
      expect(report).toMatchObject({ frames: stats.frames, rawBytes: stats.rawBytes, frameBytes: stats.sentBytes });
      expect(report.transfers).toEqual([inbound.ticket.transferId]);
      expect(report.objectSha256).toEqual(pages.map((page) => createHash('sha256').update(page).digest('hex')));
      expect(new Set(report.headers.map(({ codec, epoch }) => `${codec} ${epoch}`))).toEqual(
        new Set([`none ${inbound.ticket.epoch}`]),
      );
      const crcs = pages.flatMap((page) =>
        Array.from({ length: Math.ceil(page.length / 65_472) }, (_, i) => crc32c(page.subarray(65_472 * i, 65_472 * (i + 1)))),
      );
      expect(report.manifestDigest).toBe(partsDigest(Uint32Array.from(crcs)).toString('hex'));
      const blob = await readFile(file);
      blob[4 + 64 + 1000] = (blob[4 + 64 + 1000] as number) ^ 1;
      await writeFile(file, blob);
      expect((await decodeFrames(file, sender.pool.pageBytes)).problems).toEqual(['object 0 part 0: body CRC']);
      await sender[Symbol.asyncDispose]();
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
});
