/** Every bad input that a NATS client can publish at a receiver: named, counted, never decoded, nothing leaks. */
import { zstdCompressSync } from 'node:zlib';
import { PageLayout } from '@causeway/kv';
import { crc32c } from '@node-rs/crc32';
import { eventually, type NatsServer, startNats } from '@causeway/testkit';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeDescriptor, makeFingerprint, makeWorker, type TestWorker } from './test-workers.ts';
import { RawSender } from './test-raw-peers.ts';
import type { InboundTransfer } from './types.ts';

const descriptor = makeDescriptor([{ kind: 'full', kvHeads: 2, headDimK: 32, headDimV: 32 }], 'bf16', 16);
const PART = 1024;
const never = new AbortController().signal;

let nats: NatsServer;
let receiver: TestWorker;
beforeAll(async () => {
  nats = await startNats();
  receiver = await makeWorker({ servers: nats.url, workerId: 'd0', codec: 'auto', descriptor, pages: 64 });
});
afterAll(async () => {
  await receiver[Symbol.asyncDispose]();
  await nats[Symbol.asyncDispose]();
});

interface Scene extends AsyncDisposable {
  inbound: InboundTransfer;
  sender: RawSender;
  /** What is in the pages, in wire order. */
  received(): Buffer;
  counters(): typeof before;
}
let before = { ...({} as TestWorker['endpoint']['counters']) };

/** A ticket for 160 tokens and a hand-driven sender with credit. */
async function scene(open = true): Promise<Scene> {
  before = { ...receiver.endpoint.counters };
  const free = receiver.pool.freePages;
  const pages = receiver.pool.reserve(10) ?? expect.fail('no pages');
  const inbound = receiver.endpoint.receive({ pages, tokens: 160, deadlineMs: 20_000, signal: never });
  const sender = await RawSender.connect(nats.url, inbound.ticket, PART);
  if (open) await sender.openAndOffer();
  return {
    inbound,
    sender,
    received: () => {
      const parts = sender.table.objects.flatMap((object) => new PageLayout(descriptor).segments(object));
      return Buffer.concat(
        parts.map((run) => receiver.pool.bytes(pages.pages[run.page] as number).subarray(run.offset, run.offset + run.length)),
      );
    },
    counters: () => receiver.endpoint.counters,
    [Symbol.asyncDispose]: async () => {
      inbound.cancel('end of test');
      await inbound.committed.catch(() => undefined);
      pages[Symbol.dispose]();
      await sender[Symbol.asyncDispose]();
      expect(receiver.pool.freePages).toBe(free);
      expect(receiver.endpoint.open).toEqual({ inbound: 0, outbound: 0, creditBytes: 0 });
    },
  };
}

/** What was sent must be in the pages, and the transfer committed. */
async function finish({ inbound, sender, received }: Scene): Promise<void> {
  sender.manifest();
  const committed = await inbound.committed;
  expect(committed.rawBytes).toBe(sender.table.totalBytes);
  expect(Buffer.compare(received(), sender.raw)).toBe(0);
  await eventually(() => sender.last('committed'), { what: 'committed' });
}

describe('a receiver', () => {
  test('takes parts in any order', async () => {
    await using it = await scene();
    // everything fits the first window of credit only in pieces: reverse within four parts
    const order = Array.from({ length: it.sender.table.partCount }, (_, i) => i ^ 3).filter((i) => i < it.sender.table.partCount);
    await it.sender.publishAll(order);
    await finish(it);
  });

  test('counts duplicates and drops them', async () => {
    await using it = await scene();
    it.sender.publish(it.sender.frame(0));
    it.sender.publish(it.sender.frame(0));
    await eventually(() => it.counters().duplicateFrames > before.duplicateFrames || undefined, { what: 'a duplicate' });
    await it.sender.publishAll();
    await finish(it);
  });

  test('asks for lost parts and only for them', async () => {
    await using it = await scene();
    const { partCount } = it.sender.table;
    const lost = new Set([1, 2, 7]);
    const order = Array.from({ length: partCount }, (_, i) => i).filter((i) => !lost.has(i));
    for (const index of order) {
      await eventually(() => it.sender.credit() >= it.sender.table.at(index).end || undefined, { what: 'credit' });
      it.sender.publish(it.sender.frame(index));
    }
    it.sender.manifest();
    await it.sender.connection.flush();
    it.sender.progress(it.sender.table.totalBytes);
    const missing = await eventually(() => it.sender.last('missing'), { what: 'a bitmap' });
    const absent = Array.from({ length: partCount }, (_, i) => i).filter((part) => {
      const bit = part - missing.firstPart;
      return bit >= 0 && ((missing.have[bit >>> 3] ?? 0) & (1 << (bit & 7))) === 0;
    });
    expect(new Set(absent)).toEqual(lost);
    for (const index of lost) it.sender.publish(it.sender.frame(index));
    await it.inbound.committed;
    expect(Buffer.compare(it.received(), it.sender.raw)).toBe(0);
  });

  test('tells a sender that comes too late how the transfer ended', async () => {
    await using it = await scene(false);
    it.inbound.cancel('nobody wants it any more');
    await expect(it.inbound.committed).rejects.toMatchObject({ reason: 'cancelled' });
    it.sender.open();
    const refused = await eventually(() => it.sender.last('refused'), { what: 'the refusal' });
    expect(refused).toMatchObject({ reason: 'cancelled', message: expect.stringContaining('nobody wants it') });
  });

  test.each([64, 960, 1 << 21])('refuses parts of %i bytes', async (partBytes) => {
    await using it = await scene(false);
    it.sender.open({ partBytes });
    await expect(it.inbound.committed).rejects.toMatchObject({
      reason: 'malformed_frame',
      message: expect.stringContaining(String(partBytes)),
    });
  });

  test('answers every manifest after the commit again', async () => {
    await using it = await scene();
    await it.sender.publishAll();
    await finish(it);
    const answers = () => it.sender.heard.filter((message) => message.$case === 'committed').length;
    it.sender.manifest();
    it.sender.manifest();
    await eventually(() => answers() === 3 || undefined, { what: 'three answers' });
    it.sender.publish(it.sender.frame(0));
    await eventually(() => it.counters().lateFrames > before.lateFrames || undefined, { what: 'a late frame' });
  });

  test.each<
    [string, (it: Scene) => void, 'malformedFrames' | 'staleFrames' | 'unknownTransfers' | 'checksumFailures' | 'beyondCredit']
  >([
    ['bad magic', ({ sender }) => sender.publish(sender.frame(0, { change: (f) => void f.write('XXXX', 0) })), 'malformedFrames'],
    ['a frame shorter than a header', ({ sender }) => sender.publish(sender.frame(0).subarray(0, 10)), 'malformedFrames'],
    ['an empty frame', ({ sender }) => sender.publish(new Uint8Array(0)), 'malformedFrames'],
    ['a cut body', ({ sender }) => sender.publish(sender.frame(0).subarray(0, 500)), 'malformedFrames'],
    [
      'a body longer than said',
      ({ sender }) => sender.publish(Buffer.concat([sender.frame(0), Buffer.alloc(9)])),
      'malformedFrames',
    ],
    [
      'raw bytes that the table does not have',
      ({ sender }) => sender.publish(sender.frame(0, { rawBytes: 77 })),
      'malformedFrames',
    ],
    ['a huge raw size', ({ sender }) => sender.publish(sender.frame(0, { rawBytes: 0xffff_ffff })), 'malformedFrames'],
    ['an object outside the table', ({ sender }) => sender.publish(sender.frame(0, { object: 99 })), 'malformedFrames'],
    ['a part outside its object', ({ sender }) => sender.publish(sender.frame(0, { part: 0xffff_ffff })), 'malformedFrames'],
    [
      'an unknown codec',
      ({ sender }) => sender.publish(sender.frame(0, { change: (f) => void f.writeUInt8(77, 36) })),
      'malformedFrames',
    ],
    [
      'another transfer in the header',
      ({ sender }) => sender.publish(sender.frame(0, { transferId: 'f'.repeat(32) })),
      'malformedFrames',
    ],
    ['an older epoch', ({ sender }) => sender.publish(sender.frame(0, { epoch: sender.ticket.epoch - 1 })), 'staleFrames'],
    ['an unknown transfer', ({ sender }) => sender.publish(sender.frame(0), 'e'.repeat(32)), 'unknownTransfers'],
    [
      'a flipped body bit',
      ({ sender }) => sender.publish(sender.frame(0, { change: (f) => void f.writeUInt8((f[99] ?? 0) ^ 4, 99) })),
      'checksumFailures',
    ],
    [
      'a flipped header bit',
      ({ sender }) => sender.publish(sender.frame(0, { change: (f) => void f.writeUInt8(9, 30), keepHeaderCrc: true })),
      'checksumFailures',
    ],
    [
      'a raw checksum that the bytes do not have',
      ({ sender }) => sender.publish(sender.frame(0, { rawCrc: 5 })),
      'checksumFailures',
    ],
    [
      'a body that is no zstd',
      ({ sender }) => sender.publish(sender.frame(0, { codec: 'zstd', body: Buffer.alloc(100, 7) })),
      'checksumFailures',
    ],
    [
      'a zstd bomb',
      ({ sender }) => sender.publish(sender.frame(0, { codec: 'zstd', body: zstdCompressSync(Buffer.alloc(4 << 20)) })),
      'checksumFailures',
    ],
    [
      'planes that are none',
      ({ sender }) => sender.publish(sender.frame(0, { codec: 'planes+zstd', body: Buffer.alloc(60, 255) })),
      'checksumFailures',
    ],
    ['a part beyond the credit', ({ sender }) => sender.publish(sender.frame(sender.table.partCount - 1)), 'beyondCredit'],
  ])('counts %s, drops it, and the transfer still completes', async (_, act, counter) => {
    await using it = await scene();
    act(it);
    await eventually(() => it.counters()[counter] > before[counter] || undefined, { what: counter });
    expect(it.counters().rawBytesReceived).toBe(before.rawBytesReceived);
    await it.sender.publishAll();
    await finish(it);
  });

  test.each<[string, (it: Scene) => Uint8Array, string, number]>([
    ['beyond the credit', ({ sender }) => sender.frame(sender.table.partCount - 1), 'beyond_credit', 16],
    ['with bad checksums', ({ sender }) => sender.frame(0, { bodyCrc: 1 }), 'checksum', 33],
    ['without form', ({ sender }) => sender.frame(0, { object: 99 }), 'malformed_frame', 16],
  ])('refuses a transfer after many frames %s', async (_, make, reason, times) => {
    await using it = await scene();
    for (let i = 0; i < times; i++) it.sender.publish(make(it));
    await expect(it.inbound.committed).rejects.toMatchObject({ reason });
    const refused = await eventually(() => it.sender.last('refused'), { what: 'a refusal' });
    expect(refused.reason).toBe(reason);
    expect(it.counters().rawBytesReceived).toBe(before.rawBytesReceived);
  });

  test('refuses a frame of a newer version at once, naming both', async () => {
    await using it = await scene();
    it.sender.publish(it.sender.frame(0, { change: (frame) => void frame.writeUInt8(2, 4) }));
    await expect(it.inbound.committed).rejects.toMatchObject({
      reason: 'newer_version',
      message: expect.stringMatching(/version 2.* 1/),
    });
    expect((await eventually(() => it.sender.last('refused'), { what: 'a refusal' })).message).toMatch(/version 2/);
  });

  test('refuses a digest that does not fit', async () => {
    await using it = await scene();
    await it.sender.publishAll();
    it.sender.manifest(new Uint8Array(32));
    await expect(it.inbound.committed).rejects.toMatchObject({ reason: 'checksum', message: expect.stringContaining('digest') });
  });

  test('refuses a sender with another fingerprint or descriptor, naming the field', async () => {
    await using it = await scene(false);
    it.sender.open({ fingerprint: makeFingerprint(descriptor, 'other weights') });
    await expect(it.inbound.committed).rejects.toMatchObject({
      reason: 'fingerprint_mismatch',
      message: expect.stringContaining('weights'),
    });
    await using other = await scene(false);
    other.sender.open({ descriptor: undefined });
    await expect(other.inbound.committed).rejects.toMatchObject({ reason: 'descriptor_mismatch' });
  });

  test('takes no frame before a sender has said hello', async () => {
    await using it = await scene(false);
    it.sender.publish(it.sender.frame(0));
    await eventually(() => it.counters().beyondCredit > before.beyondCredit || undefined, { what: 'a drop' });
    expect(it.counters().rawBytesReceived).toBe(before.rawBytesReceived);
  });

  test('ignores a second sender and control messages of other epochs, and survives rubbish', async () => {
    await using it = await scene();
    it.sender.open({ workerId: 'intruder', incarnation: 'x' });
    it.sender.say({ $case: 'abort', value: { reason: 'stale' } }, it.sender.ticket.epoch + 1);
    const subject = `causeway.v1.kvctl.d0.${receiver.endpoint.incarnation}.${it.sender.ticket.transferId}.rx`;
    for (const bytes of [Buffer.alloc(0), Buffer.alloc(300_000, 1), Buffer.from('rubbish')])
      it.sender.connection.publish(subject, bytes);
    await eventually(() => it.counters().malformedControls >= before.malformedControls + 3 || undefined, {
      what: 'three malformed messages',
    });
    await it.sender.publishAll();
    await finish(it);
  });

  test('fails when the sender falls silent', async () => {
    await using other = await makeWorker({
      servers: nats.url,
      workerId: 'd1',
      codec: 'none',
      descriptor,
      pages: 10,
      silenceMs: 500,
    });
    using pages = other.pool.reserve(10) ?? expect.fail('no pages');
    const inbound = other.endpoint.receive({ pages, tokens: 160, deadlineMs: 60_000, signal: never });
    await using sender = await RawSender.connect(nats.url, inbound.ticket, PART);
    sender.open();
    await expect(inbound.committed).rejects.toMatchObject({ reason: 'transfer_failed', message: expect.stringContaining('raw') });
  });

  test('fails when the sender aborts, at the deadline, and when its caller aborts', async () => {
    await using it = await scene();
    it.sender.say({ $case: 'abort', value: { reason: 'prefill failed' } });
    await expect(it.inbound.committed).rejects.toMatchObject({
      reason: 'transfer_failed',
      message: expect.stringContaining('prefill failed'),
    });
    using pages = receiver.pool.reserve(1) ?? expect.fail();
    const late = receiver.endpoint.receive({ pages, tokens: 16, deadlineMs: 30, signal: never });
    await expect(late.committed).rejects.toMatchObject({ reason: 'deadline' });
    const controller = new AbortController();
    using more = receiver.pool.reserve(1) ?? expect.fail();
    const cancelled = receiver.endpoint.receive({ pages: more, tokens: 16, deadlineMs: 10_000, signal: controller.signal });
    controller.abort();
    await expect(cancelled.committed).rejects.toMatchObject({ reason: 'cancelled' });
  });

  test('never writes a page after the transfer has failed', async () => {
    await using it = await scene();
    const body = zstdCompressSync(it.sender.rawPart(0));
    it.sender.publish(it.sender.frame(0, { codec: 'none' }));
    await eventually(() => it.counters().rawBytesReceived > before.rawBytesReceived || undefined, { what: 'a part' });
    it.inbound.cancel('enough');
    await it.inbound.committed.catch(() => undefined);
    const snapshot = Buffer.from(it.received());
    it.sender.publish(it.sender.frame(1, { codec: 'zstd', body, rawCrc: crc32c(it.sender.rawPart(0)) }));
    it.sender.publish(it.sender.frame(2));
    await eventually(() => it.counters().lateFrames >= before.lateFrames + 2 || undefined, { what: 'late frames' });
    expect(Buffer.compare(snapshot, it.received())).toBe(0);
  });
});
