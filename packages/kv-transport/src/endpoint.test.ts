/** An endpoint on a real server: many transfers at once, its budget, its counters, its beginning and end. */
import { type KvObject, PagePool } from '@causeway/kv';
import { eventually, freePort, startNats } from '@causeway/testkit';
import { describe, expect, test } from 'vitest';
import { KvEndpoint } from './endpoint.ts';
import { begin, descriptor, never } from './test-transfers.ts';
import { makeFingerprint, makeWorker } from './test-workers.ts';

describe('an endpoint', () => {
  test('carries many transfers in both directions within its budget', async () => {
    await using nats = await startNats();
    const options = { servers: nats.url, codec: 'auto' as const, descriptor, pages: 170, budgetBytes: 4 << 20 };
    await using a = await makeWorker({ ...options, workerId: 'a' });
    await using b = await makeWorker({ ...options, workerId: 'b' });
    const pairs = Array.from({ length: 14 }, (_, i) => (i % 2 === 0 ? begin(a, b, 5 + i) : begin(b, a, 5 + i)));
    let most = 0;
    const watch = setInterval(() => {
      most = Math.max(most, a.endpoint.open.creditBytes, b.endpoint.open.creditBytes);
    }, 1);
    const results = await Promise.all(
      pairs.map(async (pair, i) => [await pair.outbound.finish({ firstToken: i }), await pair.inbound.committed] as const),
    );
    clearInterval(watch);
    expect(most).toBeGreaterThan(0);
    expect(most).toBeLessThanOrEqual(4 << 20);
    for (const [i, pair] of pairs.entries()) {
      expect(pair.equal()).toBe(true);
      expect(results[i]?.[1].firstToken).toBe(i);
      pair.release();
    }
    for (const worker of [a, b]) {
      expect(worker.pool.freePages).toBe(170);
      expect(worker.endpoint.open).toEqual({ inbound: 0, outbound: 0, creditBytes: 0 });
      const { checksumFailures, malformedFrames, beyondCredit, duplicateFrames } = worker.endpoint.counters;
      expect({ checksumFailures, malformedFrames, beyondCredit, duplicateFrames }).toEqual({
        checksumFailures: 0,
        malformedFrames: 0,
        beyondCredit: 0,
        duplicateFrames: 0,
      });
    }
  });

  test("reports the bytes that the server's own counters show", async () => {
    await using nats = await startNats();
    await using sender = await makeWorker({ servers: nats.url, workerId: 'p0', codec: 'planes+zstd', descriptor, pages: 60 });
    await using receiver = await makeWorker({ servers: nats.url, workerId: 'd0', codec: 'auto', descriptor, pages: 60 });
    const before = await nats.varz();
    await using pair = begin(sender, receiver, 60);
    const [stats] = await Promise.all([pair.outbound.finish({}), pair.inbound.committed]);
    const after = await nats.varz();
    const seen = after.in_bytes - before.in_bytes;
    expect(Math.abs(seen - stats.sentBytes) / stats.sentBytes).toBeLessThan(0.05);
    expect(Math.abs(seen - stats.wireBytes) / stats.wireBytes).toBeLessThan(0.05);
    expect(stats.sentBytes).toBeLessThan(stats.rawBytes / 1.2);
    expect(sender.endpoint.counters.frameBytesSent).toBe(stats.sentBytes);
  });

  test('waits for a server that comes late and gives up at the deadline, naming it', async () => {
    const port = await freePort();
    using pool = new PagePool({ descriptor, pageCount: 1 });
    const waiting: string[] = [];
    const options = {
      servers: `nats://127.0.0.1:${port}`,
      workerId: 'w',
      pool,
      fingerprint: makeFingerprint(descriptor),
      chip: 'cpu',
      codec: 'none' as const,
    };
    await expect(KvEndpoint.connect({ ...options, connectDeadlineMs: 400 })).rejects.toMatchObject({
      reason: 'dependency_unavailable',
      message: expect.stringContaining(`NATS at nats://127.0.0.1:${port}`),
    });
    const connecting = KvEndpoint.connect({
      ...options,
      connectDeadlineMs: 20_000,
      log: { info: () => undefined, warn: (_fields, message) => void waiting.push(message) },
    });
    await eventually(() => waiting.length > 0 || undefined, { what: 'a message about waiting' });
    expect(waiting[0]).toMatch(/waiting for NATS at/);
    await using _nats = await startNats({ port });
    await using endpoint = await connecting;
    expect(endpoint.connected).toBe(true);
  });

  test('says payload_too_large where no frame fits', async () => {
    await using nats = await startNats({ maxPayload: 1000 });
    using pool = new PagePool({ descriptor, pageCount: 1 });
    const options = {
      servers: nats.url,
      workerId: 'w',
      pool,
      fingerprint: makeFingerprint(descriptor),
      chip: 'cpu',
      codec: 'none' as const,
    };
    await expect(KvEndpoint.connect(options)).rejects.toMatchObject({
      reason: 'payload_too_large',
      message: expect.stringContaining('1000'),
    });
  });

  test('delivers what a tampering sender altered before the checksums, and counts nothing', async () => {
    await using nats = await startNats();
    const seen: number[] = [];
    await using sender = await makeWorker({
      servers: nats.url,
      workerId: 'p0',
      codec: 'planes+zstd',
      descriptor,
      pages: 4,
      tamper: (raw, part) => {
        const { firstToken } = part.content as KvObject & { kind: 'tokens' };
        seen.push(firstToken);
        if (part.objectOffset === 0 && firstToken === 64) raw.fill(0x3f, 0, 1000);
      },
    });
    await using receiver = await makeWorker({ servers: nats.url, workerId: 'd0', codec: 'auto', descriptor, pages: 4 });
    await using pair = begin(sender, receiver, 4);
    await Promise.all([pair.outbound.finish({}), pair.inbound.committed]);
    expect(pair.equal()).toBe(false);
    expect(new Set(seen)).toEqual(new Set([0, 64, 128, 192]));
    expect(receiver.endpoint.counters.checksumFailures).toBe(0);
  });

  test('closing ends its transfers and leaves no page behind', async () => {
    await using nats = await startNats();
    const sender = await makeWorker({ servers: nats.url, workerId: 'p0', codec: 'zstd', descriptor, pages: 20 });
    await using receiver = await makeWorker({ servers: nats.url, workerId: 'd0', codec: 'auto', descriptor, pages: 20 });
    const pair = begin(sender, receiver, 20);
    const finished = pair.outbound.finish({});
    finished.catch(() => undefined);
    await eventually(() => receiver.endpoint.counters.framesReceived > 0 || undefined, { what: 'a frame' });
    await sender.endpoint[Symbol.asyncDispose]();
    await expect(finished).rejects.toMatchObject({ reason: 'cancelled' });
    await expect(pair.inbound.committed).rejects.toMatchObject({ reason: 'transfer_failed' });
    pair.release();
    expect(sender.pool.freePages).toBe(20);
    expect(receiver.pool.freePages).toBe(20);
    expect(() =>
      sender.endpoint.send({ ticket: pair.inbound.ticket, pages: sender.pool.reserve(20) as never, signal: never }),
    ).toThrow(/closing/);
    await sender[Symbol.asyncDispose]();
  });
});
