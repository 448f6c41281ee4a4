/** Transfers between real endpoints on a real server when connections, peers and callers fail. */
import { KV_CODECS } from '@causeway/kv';
import { eventually, startNats } from '@causeway/testkit';
import { describe, expect, test } from 'vitest';
import { RawReceiver } from './test-raw-peers.ts';
import { begin, descriptor, never, PAGE_TOKENS, startProxy } from './test-transfers.ts';
import { makeDescriptor, makeFingerprint, makeWorker } from './test-workers.ts';

describe('a transfer', () => {
  test('goes on after the server was killed and restarted in the middle, without sending again what arrived', async () => {
    await using nats = await startNats({ maxPayload: 65_536 });
    let parts = 0;
    let restarted: Promise<void> | undefined;
    const tamper = () => {
      if (++parts === 60) restarted = nats.signal('KILL').then(() => nats.start());
    };
    await using sender = await makeWorker({ servers: nats.url, workerId: 'p0', codec: 'none', descriptor, pages: 40, tamper });
    await using receiver = await makeWorker({ servers: nats.url, workerId: 'd0', codec: 'auto', descriptor, pages: 40 });
    await using pair = begin(sender, receiver, 40);
    const [stats, committed] = await Promise.all([pair.outbound.finish({}), pair.inbound.committed]);
    await restarted;
    expect(restarted).toBeDefined();
    expect(pair.equal()).toBe(true);
    expect(committed.rawBytes).toBe(40 * sender.pool.pageBytes);
    const { partsResent, framesSent } = sender.endpoint.counters;
    expect(stats.resentParts).toBe(partsResent);
    // no more than what was under way can have been lost
    expect(partsResent * 65_536).toBeLessThanOrEqual(16 << 20);
    expect(framesSent).toBeGreaterThanOrEqual(40 * Math.ceil(sender.pool.pageBytes / 65_472));
    expect(receiver.endpoint.counters.duplicateFrames).toBeLessThanOrEqual(8);
  });

  test('survives connections that are cut again and again on either side', async () => {
    await using nats = await startNats({ maxPayload: 65_536 });
    await using proxyP = await startProxy(nats.port);
    await using proxyD = await startProxy(nats.port);
    await using sender = await makeWorker({
      servers: `127.0.0.1:${proxyP.port}`,
      workerId: 'p0',
      codec: 'auto',
      descriptor,
      pages: 40,
    });
    await using receiver = await makeWorker({
      servers: `127.0.0.1:${proxyD.port}`,
      workerId: 'd0',
      codec: 'auto',
      descriptor,
      pages: 40,
    });
    await using pair = begin(sender, receiver, 40);
    let committed = false;
    const done = Promise.all([pair.outbound.finish({}), pair.inbound.committed]).then(() => {
      committed = true;
    });
    for (const proxy of [proxyD, proxyP, proxyD]) {
      const before = receiver.endpoint.counters.rawBytesReceived;
      await eventually(() => committed || receiver.endpoint.counters.rawBytesReceived > before || undefined, {
        what: 'progress',
      });
      proxy.cut();
    }
    await done;
    expect(pair.equal()).toBe(true);
  });

  test('publishes nothing while its server is away and finishes when it is back', async () => {
    await using nats = await startNats();
    await using sender = await makeWorker({ servers: nats.url, workerId: 'p0', codec: 'none', descriptor, pages: 8 });
    await using receiver = await makeWorker({ servers: nats.url, workerId: 'd0', codec: 'none', descriptor, pages: 8 });
    await using pair = begin(sender, receiver, 8);
    pair.outbound.offer(2 * PAGE_TOKENS);
    await eventually(() => receiver.endpoint.counters.rawBytesReceived === 2 * sender.pool.pageBytes || undefined, {
      what: 'two pages',
    });
    await nats.signal('KILL');
    await eventually(() => (!sender.endpoint.connected && !receiver.endpoint.connected) || undefined, { what: 'both notice' });
    const { framesSent } = sender.endpoint.counters;
    const done = Promise.all([pair.outbound.finish({ firstToken: 9 }), pair.inbound.committed]);
    expect(() =>
      receiver.endpoint.receive({ pages: receiver.pool.reserve(1) as never, tokens: 1, deadlineMs: 1, signal: never }),
    ).toThrow(expect.objectContaining({ reason: 'dependency_unavailable' }));
    await new Promise((resolve) => setImmediate(resolve));
    expect(sender.endpoint.counters.framesSent).toBe(framesSent);
    await nats.start();
    const [stats, committed] = await done;
    expect(stats.resentParts).toBe(0);
    expect(committed.firstToken).toBe(9);
    expect(pair.equal()).toBe(true);
  });

  test('sends again exactly the parts that the receiver says it lacks', async () => {
    await using nats = await startNats();
    await using sender = await makeWorker({ servers: nats.url, workerId: 'p0', codec: 'none', descriptor, pages: 8 });
    await using receiver = await RawReceiver.connect(nats.url, {
      epoch: 5,
      maxPayload: 1 << 20,
      maxPartBytes: 65_536,
      descriptor,
      fingerprint: makeFingerprint(descriptor),
      objects: Array.from({ length: 4 }, (_, i) => ({
        kind: 'tokens' as const,
        firstLayer: 0,
        layerCount: 6,
        firstToken: i * 64,
        tokenCount: 64,
      })),
      acceptedCodecs: KV_CODECS,
      acceptedDtypes: ['bf16'],
      lossy: false,
      deadlineMs: 20_000,
      chip: 'cpu',
      tokens: 256,
    });
    using pages = sender.pool.reserve(4) ?? expect.fail();
    const outbound = sender.endpoint.send({ ticket: receiver.ticket, pages, signal: never });
    const finished = outbound.finish({});
    await eventually(() => receiver.heard.some((message) => message.$case === 'open') || undefined, { what: 'hello' });
    const perPage = Math.ceil(sender.pool.pageBytes / 65_536);
    receiver.credit(sender.pool.pageBytes);
    await eventually(() => receiver.frames.length === perPage || undefined, { what: 'one page' });
    // credit is absolute: repeating it allows nothing more
    receiver.credit(sender.pool.pageBytes);
    receiver.credit(4 * sender.pool.pageBytes);
    await eventually(() => receiver.heard.some((message) => message.$case === 'manifest') || undefined, { what: 'a manifest' });
    // The manifest comes by the other connection, ahead of frames on their way.
    await eventually(() => receiver.frames.length >= 4 * perPage);
    expect(receiver.frames).toHaveLength(4 * perPage);
    expect(receiver.frames.some((frame) => frame.resent)).toBe(false);
    const have = new Uint8Array(Math.ceil((4 * perPage) / 8)).fill(255);
    have[0] = 0b1111_1010;
    const again = await eventually(
      () => {
        receiver.answer({ $case: 'missing', value: { have, firstPart: 0 } });
        const resent = receiver.frames.filter((frame) => frame.resent);
        return resent.length >= 2 ? resent : undefined;
      },
      { what: 'two parts again' },
    );
    expect(again.slice(0, 2).map(({ object, part }) => [object, part])).toEqual([
      [0, 0],
      [0, 2],
    ]);
    // the manifest is repeated until it is answered
    const manifests = () => receiver.heard.filter((message) => message.$case === 'manifest').length;
    const seen = manifests();
    await eventually(() => manifests() > seen + 1 || undefined, { what: 'the manifest again' });
    receiver.answer({ $case: 'committed', value: { rawBytes: 0n, receivedBytes: 0n, decodeCosts: [] } });
    const stats = await finished;
    // What was asked for again may still be on its way.
    await eventually(() => receiver.frameBytes >= stats.sentBytes);
    expect(stats.resentParts).toBe(receiver.frames.filter((frame) => frame.resent).length);
    expect(stats.sentBytes).toBe(receiver.frameBytes);
  });

  test('cancelled by the receiver stops both sides; pages return after the last job on them', async () => {
    await using nats = await startNats({ maxPayload: 65_536 });
    await using sender = await makeWorker({ servers: nats.url, workerId: 'p0', codec: 'planes+zstd', descriptor, pages: 40 });
    await using receiver = await makeWorker({
      servers: nats.url,
      workerId: 'd0',
      codec: 'auto',
      descriptor,
      pages: 40,
      codecThreads: 1,
    });
    await using pair = begin(sender, receiver, 40);
    const finished = pair.outbound.finish({});
    finished.catch(() => undefined);
    await eventually(() => receiver.endpoint.counters.rawBytesReceived > 0 || undefined, { what: 'a first part' });
    pair.inbound.cancel('the client went away');
    pair.release();
    await expect(pair.inbound.committed).rejects.toMatchObject({ reason: 'cancelled' });
    // committed settles after the last job: every page is back at this moment
    expect(receiver.pool.freePages).toBe(receiver.pool.totalPages);
    await expect(finished).rejects.toMatchObject({ reason: 'cancelled', message: expect.stringContaining('client went away') });
    await eventually(() => sender.pool.freePages === sender.pool.totalPages || undefined, { what: "the sender's pages" });
    const { framesSent } = sender.endpoint.counters;
    await using again = begin(sender, receiver, 4);
    await Promise.all([again.outbound.finish({}), again.inbound.committed]);
    expect(again.equal()).toBe(true);
    expect(sender.endpoint.counters.framesSent - framesSent).toBeLessThan(4 * 12);
  });

  test('aborted by the sender or its caller fails at the receiver, naming why', async () => {
    await using nats = await startNats();
    await using sender = await makeWorker({ servers: nats.url, workerId: 'p0', codec: 'none', descriptor, pages: 16 });
    await using receiver = await makeWorker({ servers: nats.url, workerId: 'd0', codec: 'none', descriptor, pages: 16 });
    await using pair = begin(sender, receiver, 4);
    pair.outbound.offer(PAGE_TOKENS);
    pair.outbound.abort('prefill failed');
    await expect(pair.inbound.committed).rejects.toMatchObject({
      reason: 'transfer_failed',
      message: expect.stringContaining('prefill failed'),
    });
    await expect(pair.outbound.finish({})).rejects.toMatchObject({ reason: 'cancelled' });
    pair.release();
    const controller = new AbortController();
    await using other = begin(sender, receiver, 4, { from: controller.signal });
    other.outbound.offer(PAGE_TOKENS);
    controller.abort();
    await expect(other.inbound.committed).rejects.toMatchObject({ reason: 'transfer_failed' });
  });

  test('fails when its receiver has gone', async () => {
    await using nats = await startNats();
    await using sender = await makeWorker({
      servers: nats.url,
      workerId: 'p0',
      codec: 'none',
      descriptor,
      pages: 8,
      silenceMs: 600,
    });
    const receiver = await makeWorker({ servers: nats.url, workerId: 'd0', codec: 'none', descriptor, pages: 8 });
    using from = sender.pool.reserve(2) ?? expect.fail();
    using to = receiver.pool.reserve(2) ?? expect.fail();
    const { ticket } = receiver.endpoint.receive({ pages: to, tokens: 128, deadlineMs: 30_000, signal: never });
    await receiver[Symbol.asyncDispose]();
    const outbound = sender.endpoint.send({ ticket, pages: from, signal: never });
    await expect(outbound.finish({})).rejects.toMatchObject({
      reason: 'transfer_failed',
      message: expect.stringContaining('d0'),
    });
  });

  test('goes on after the process itself stood still for longer than a silence may last', async () => {
    await using nats = await startNats();
    await using sender = await makeWorker({
      servers: nats.url,
      workerId: 'p0',
      codec: 'none',
      descriptor,
      pages: 8,
      silenceMs: 700,
    });
    await using receiver = await makeWorker({
      servers: nats.url,
      workerId: 'd0',
      codec: 'none',
      descriptor,
      pages: 8,
      silenceMs: 700,
    });
    await using pair = begin(sender, receiver, 8);
    pair.outbound.offer(2 * PAGE_TOKENS);
    await eventually(() => receiver.endpoint.counters.rawBytesReceived > 0 || undefined, { what: 'a part' });
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1600);
    await Promise.all([pair.outbound.finish({}), pair.inbound.committed]);
    expect(pair.equal()).toBe(true);
  });

  test('is refused before any work when the workers do not match', async () => {
    await using nats = await startNats();
    await using sender = await makeWorker({
      servers: nats.url,
      workerId: 'p0',
      codec: 'none',
      descriptor,
      pages: 8,
      fingerprint: makeFingerprint(descriptor, 'x'),
    });
    await using receiver = await makeWorker({ servers: nats.url, workerId: 'd0', codec: 'none', descriptor, pages: 8 });
    using from = sender.pool.reserve(1) ?? expect.fail();
    using to = receiver.pool.reserve(1) ?? expect.fail();
    const inbound = receiver.endpoint.receive({ pages: to, tokens: 64, deadlineMs: 1000, signal: never });
    expect(() => sender.endpoint.send({ ticket: inbound.ticket, pages: from, signal: never })).toThrow(
      expect.objectContaining({ reason: 'fingerprint_mismatch', message: expect.stringContaining('weights') }),
    );
    const other = makeDescriptor(descriptor.layers, 'f16', 64);
    const ticket = { ...inbound.ticket, fingerprint: makeFingerprint(descriptor, 'x'), descriptor: other };
    expect(() => sender.endpoint.send({ ticket, pages: from, signal: never })).toThrow(
      expect.objectContaining({
        reason: 'descriptor_mismatch',
        message: expect.stringContaining('bf16 NHD 64 to f16 NHD 64 rounds numbers'),
      }),
    );
    inbound.cancel('done');
    await inbound.committed.catch(() => undefined);
  });
});
