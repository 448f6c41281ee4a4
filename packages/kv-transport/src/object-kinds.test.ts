/** Tables that mix tokens, entries, windows and states, between real endpoints on a real server. */
import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type KvObject, layerGroups, ObjectGeometry, type ObjectPlaces, PageLayout, type PagePool } from '@causeway/kv';
import { eventually, type NatsServer, startNats } from '@causeway/testkit';
import { connect } from 'nats';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { ReceiverMessage } from './control.ts';
import { FRAME_HEADER_BYTES, readFrameHeader } from './frame.ts';
import { decodeFrames, python } from './test-python.ts';
import { RawSender } from './test-raw-peers.ts';
import { makeDescriptor, makeWorker, smoothKv, type TestWorker } from './test-workers.ts';
import type { InboundTransfer, OutboundTransfer, ReceiveOptions } from './types.ts';

/** Attention with two sizes of heads, a window with compressed entries and a compressor's state, linear attention. */
const descriptor = makeDescriptor(
  [
    { kind: 'full', kvHeads: 3, headDimK: 64, headDimV: 48 },
    {
      kind: 'latent',
      rank: 96,
      ropeDim: 32,
      window: 40,
      entries: [
        { name: 'kv', ratio: 4, width: 128 },
        { name: 'indexer', ratio: 4, width: 32 },
      ],
      states: [{ name: 'pending', dtype: 'f32', shape: [8, 256] }],
    },
    {
      kind: 'none',
      states: [
        { name: 'S', dtype: 'f32', shape: [4, 64, 64] },
        { name: 'conv', dtype: 'bf16', shape: [384, 3] },
      ],
    },
    { kind: 'full', kvHeads: 2, headDimK: 64, headDimV: 64, window: 24 },
    { kind: 'latent', rank: 96, ropeDim: 0, entries: [{ name: 'kv', ratio: 16, width: 128 }] },
  ],
  'bf16',
  16,
);
const layout = new PageLayout(descriptor);
const geometry = new ObjectGeometry(descriptor);
const never = new AbortController().signal;
/** Past every window: rings have turned. */
const TOKENS = 213;
const PAGES = layout.pages(TOKENS);
const UNTOUCHED = 0xa5;

let nats: NatsServer;
beforeAll(async () => {
  nats = await startNats({ maxPayload: 65_536 });
});
afterAll(() => nats[Symbol.asyncDispose]());

const worker = (workerId: string, more: Partial<Parameters<typeof makeWorker>[0]> = {}): Promise<TestWorker> =>
  makeWorker({ servers: nats.url, workerId, codec: 'none', descriptor, pages: 2 * PAGES, ...more });

/** Raw bytes of a sequence of so many tokens, from the geometry's numbers alone. */
function expectedBytes(tokens: number): number {
  const perToken = 2 * (3 * 64 + 3 * 48 + 96);
  const entries = 2 * (Math.floor(tokens / 4) * (128 + 32) + Math.floor(tokens / 16) * 128);
  const windows = 2 * (Math.min(40, tokens) * (96 + 32) + Math.min(24, tokens) * 2 * 2 * 64);
  const states = 4 * 8 * 256 + 4 * 4 * 64 * 64 + 2 * 384 * 3;
  return tokens * perToken + entries + windows + states;
}

interface Pair extends AsyncDisposable {
  inbound: InboundTransfer;
  outbound: OutboundTransfer;
  sent(object: KvObject): Buffer;
  received(object: KvObject): Buffer;
  /** Every object is the same at both ends, and nothing else of the receiver's pages was written. */
  expectEqual(): void;
}

const bytesOf = (pool: PagePool, pages: readonly number[], places: ObjectPlaces, object: KvObject): Buffer =>
  Buffer.concat(
    places
      .segments(object)
      .map(({ page, offset, length }) => pool.bytes(pages[page] as number).subarray(offset, offset + length)),
  );

function begin(
  sender: TestWorker,
  receiver: TestWorker,
  o: Partial<ReceiveOptions> & { tokens?: number; places?: ObjectPlaces } = {},
): Pair {
  const { tokens = TOKENS, places = layout } = o;
  const from = sender.pool.reserve(layout.pages(tokens)) ?? expect.fail('no pages to send');
  // Occupied, so that indices differ between the two sides.
  const other = receiver.pool.reserve(1);
  const to = receiver.pool.reserve(layout.pages(tokens)) ?? expect.fail('no pages to receive');
  for (const page of from.pages) smoothKv(sender.pool.bytes(page), 'bf16', 31 * page + 7);
  for (const page of to.pages) receiver.pool.bytes(page).fill(UNTOUCHED);
  const inbound = receiver.endpoint.receive({ pages: to, tokens, deadlineMs: 30_000, signal: never, order: o.order });
  const outbound = sender.endpoint.send({ ticket: inbound.ticket, pages: from, signal: never });
  const sent = (object: KvObject): Buffer => bytesOf(sender.pool, from.pages, layout, object);
  const received = (object: KvObject): Buffer => bytesOf(receiver.pool, to.pages, places, object);
  return {
    inbound,
    outbound,
    sent,
    received,
    expectEqual: () => {
      let bytes = 0;
      for (const object of inbound.ticket.objects) {
        expect(received(object).equals(sent(object)), JSON.stringify(object)).toBe(true);
        bytes += geometry.bytes(object);
        for (const { page, offset, length } of places.segments(object)) {
          receiver.pool.bytes(to.pages[page] as number).fill(UNTOUCHED, offset, offset + length);
        }
      }
      expect(bytes).toBe(expectedBytes(tokens));
      expect(to.pages.every((page) => receiver.pool.bytes(page).every((byte) => byte === UNTOUCHED))).toBe(true);
    },
    [Symbol.asyncDispose]: async () => {
      outbound.abort('end of test');
      inbound.cancel('end of test');
      await inbound.committed.catch(() => undefined);
      for (const set of [from, to, other]) set?.[Symbol.dispose]();
      await eventually(
        () =>
          (sender.pool.freePages === sender.pool.totalPages && receiver.pool.freePages === receiver.pool.totalPages) || undefined,
        { what: 'all pages back' },
      );
      expect([sender.endpoint.open, receiver.endpoint.open]).toEqual(Array(2).fill({ inbound: 0, outbound: 0, creditBytes: 0 }));
    },
  };
}

describe('a table of mixed objects', () => {
  for (const codec of ['none', 'zstd', 'planes+zstd'] as const) {
    test.each([3, 16, 41, TOKENS])(`arrives bit by bit under ${codec} (%i tokens)`, async (tokens) => {
      await using sender = await worker('p0', { codec });
      await using receiver = await worker('d0');
      await using pair = begin(sender, receiver, { tokens });
      const [stats, committed] = await Promise.all([pair.outbound.finish({ firstToken: 5 }), pair.inbound.committed]);
      expect(committed).toMatchObject({ rawBytes: expectedBytes(tokens), firstToken: 5 });
      expect(stats.rawBytes).toBe(expectedBytes(tokens));
      pair.expectEqual();
    });
  }

  test('splits the numbers of a state by its own type', async () => {
    const tap = await connect({ servers: nats.url });
    const planes = new Map<number, Set<number>>();
    tap.subscribe('causeway.v1.kv.>', {
      callback: (_error, { data }) => {
        const { object, codec } = readFrameHeader(data);
        if (codec === 'planes+zstd')
          planes.set(object, (planes.get(object) ?? new Set()).add(data[FRAME_HEADER_BYTES] as number));
      },
    });
    await tap.flush();
    await using sender = await worker('p0', { codec: 'planes+zstd' });
    await using receiver = await worker('d0');
    await using pair = begin(sender, receiver);
    await Promise.all([pair.outbound.finish({}), pair.inbound.committed]);
    await tap.flush();
    await tap.close();
    const { objects } = pair.inbound.ticket;
    const bytesByKind = (wanted: (object: KvObject) => boolean): number[] => [
      ...new Set([...planes].filter(([index]) => wanted(objects[index] as KvObject)).flatMap(([, sizes]) => [...sizes])),
    ];
    expect(bytesByKind((object) => object.kind === 'state' && object.name !== 'conv')).toEqual([4]);
    expect(bytesByKind((object) => object.kind !== 'state')).toEqual([2]);
  });

  test('arrives although the server is killed in the middle, and what is in place is not sent again', async () => {
    await using own = await startNats({ maxPayload: 4096 });
    let parts = 0;
    let restarted: Promise<void> | undefined;
    const tamper = () => {
      if (++parts === 40) restarted = own.signal('KILL').then(() => own.start());
    };
    await using sender = await worker('p0', { servers: own.url, tamper });
    await using receiver = await worker('d0', { servers: own.url });
    await using pair = begin(sender, receiver);
    const [stats] = await Promise.all([pair.outbound.finish({}), pair.inbound.committed]);
    await restarted;
    expect(restarted).toBeDefined();
    // Parts of 4032 bytes, each published once before the server died or after it was back.
    const count = pair.inbound.ticket.objects.reduce((sum, object) => sum + Math.ceil(geometry.bytes(object) / 4032), 0);
    expect(stats.frames - stats.resentParts).toBe(count);
    expect(count).toBeGreaterThan(60);
    expect(receiver.endpoint.counters.duplicateFrames).toBeLessThanOrEqual(8);
    pair.expectEqual();
  });

  test('is placed by each end as that end keeps it', async () => {
    /** Keeps windows unrolled: the oldest token first, whatever its number. */
    const unrolled: ObjectPlaces = {
      pages: (tokens) => layout.pages(tokens),
      segments: (object) => layout.segments(object.kind === 'window' ? { ...object, firstToken: 0 } : object),
    };
    await using sender = await worker('p0');
    await using receiver = await worker('d0', { places: unrolled });
    await using pair = begin(sender, receiver, { places: unrolled });
    await Promise.all([pair.outbound.finish({}), pair.inbound.committed]);
    const windows = pair.inbound.ticket.objects.filter(({ kind }) => kind === 'window');
    // The sender's rings have turned: in its memory the window lies in two pieces of each section.
    expect(windows.map((object) => layout.segments(object).length > unrolled.segments(object).length)).toEqual([true, true]);
    pair.expectEqual();
  });

  test('needs room for windows and states beside the tokens', async () => {
    await using receiver = await worker('d0');
    const tokenPages = Math.ceil(TOKENS / 16);
    expect(PAGES).toBeGreaterThan(tokenPages);
    using few = receiver.pool.reserve(PAGES - 1) ?? expect.fail();
    expect(() => receiver.endpoint.receive({ pages: few, tokens: TOKENS, deadlineMs: 1000, signal: never })).toThrow(
      `KV of ${TOKENS} tokens takes ${PAGES} pages; ${PAGES - 1} are too few`,
    );
  });

  test('comes back to the pools when it is cancelled half way', async () => {
    await using sender = await worker('p0');
    await using receiver = await worker('d0');
    await using pair = begin(sender, receiver);
    pair.outbound.offer(TOKENS);
    await eventually(() => receiver.endpoint.counters.rawBytesReceived > 0 || undefined, { what: 'a first part' });
    pair.inbound.cancel('the client has gone');
    await expect(pair.inbound.committed).rejects.toMatchObject({ reason: 'cancelled' });
    await eventually(() => pair.outbound.failed.aborted || undefined, { what: 'the sender knows' });
  });

  test.skipIf(!python)('is read by the Python decoder from docs/wire.md alone', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'causeway-kinds-'));
    try {
      const file = join(folder, 'frames');
      await using sender = await worker('p0', { recordFrames: file });
      await using receiver = await worker('d0');
      await using pair = begin(sender, receiver);
      await Promise.all([pair.outbound.finish({}), pair.inbound.committed]);
      const hashes = pair.inbound.ticket.objects.map((object) => createHash('sha256').update(pair.sent(object)).digest('hex'));
      await sender.endpoint[Symbol.asyncDispose]();
      const report = await decodeFrames(file, 1 << 20);
      expect(report).toMatchObject({ problems: [], rawBytes: expectedBytes(TOKENS), objectSha256: hashes });
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
});

describe('windows and states', () => {
  const order = { chunkEnds: [50, 100, 150, 200, TOKENS], groups: layerGroups(5, 2) };
  /** Raw bytes of the objects before the nth window or state. */
  const bytesBefore = (objects: readonly KvObject[], nth: number): number => {
    const finals = objects.filter(({ kind }) => kind === 'window' || kind === 'state');
    const until = objects.indexOf(finals[nth] as KvObject);
    return objects.slice(0, until).reduce((sum, object) => sum + geometry.bytes(object), 0);
  };

  test('leave when their layers have run the last chunk, group by group', async () => {
    await using sender = await worker('p0');
    await using receiver = await worker('d0');
    await using pair = begin(sender, receiver, { order });
    const { objects } = pair.inbound.ticket;
    const arrived = async (bytes: number): Promise<void> => {
      await eventually(() => receiver.endpoint.counters.rawBytesReceived >= bytes || undefined, { what: `${bytes} bytes` });
      // Nothing that may not leave yet is on offer: credit, which is all that frames can follow, ends here.
      expect(receiver.endpoint.counters.rawBytesReceived).toBe(bytes);
      expect(receiver.endpoint.open.creditBytes).toBe(0);
    };
    const [early, late] = order.groups;
    pair.outbound.offer(200);
    pair.outbound.offer(TOKENS, early);
    // Layers 0 and 1 are one group: the window and state of layer 1 follow its tokens.
    await arrived(bytesBefore(objects, 0));
    pair.outbound.offerFinal(early);
    await arrived(bytesBefore(objects, 2) - lastChunk(objects, 2));
    expect(() => pair.outbound.offerFinal(late)).toThrow(
      expect.objectContaining({
        code: 'failed_precondition',
        message: `windows and states of layer 2 are not final: 200 of ${TOKENS} tokens were offered`,
      }),
    );
    pair.outbound.offer(TOKENS);
    await arrived(bytesBefore(objects, 2));
    pair.outbound.offerFinal(late);
    await arrived(expectedBytes(TOKENS));
    await Promise.all([pair.outbound.finish({}), pair.inbound.committed]);
    pair.expectEqual();
  });

  test('cannot be offered before the last chunk is', async () => {
    await using sender = await worker('p0');
    await using receiver = await worker('d0');
    await using pair = begin(sender, receiver);
    for (const before of [0, 16, TOKENS - 1]) {
      pair.outbound.offer(before);
      expect(() => pair.outbound.offerFinal()).toThrow(expect.objectContaining({ code: 'failed_precondition' }));
    }
    await Promise.all([pair.outbound.finish({}), pair.inbound.committed]);
    pair.expectEqual();
  });

  test('on offer too early are a violation, which ends the transfer', async () => {
    await using receiver = await worker('d0');
    for (const finishedLayers of [0, 1, 3]) {
      using pages = receiver.pool.reserve(PAGES) ?? expect.fail();
      const inbound = receiver.endpoint.receive({ pages, tokens: TOKENS, deadlineMs: 20_000, signal: never });
      await using raw = await RawSender.connect(nats.url, inbound.ticket, 4096);
      raw.open();
      raw.progress(0, finishedLayers);
      await expect(inbound.committed).rejects.toMatchObject({
        reason: 'malformed_frame',
        message: `the sender offers windows or states of 4 layers; it says that ${finishedLayers} layers have run the last chunk`,
      });
      await eventually(() => raw.last('refused'), { what: 'the refusal' });
    }
  });

  test('cannot be sent without having been on offer', async () => {
    await using receiver = await worker('d0');
    using pages = receiver.pool.reserve(PAGES) ?? expect.fail();
    for (const page of pages.pages) receiver.pool.bytes(page).fill(UNTOUCHED);
    const inbound = receiver.endpoint.receive({ pages, tokens: TOKENS, deadlineMs: 20_000, signal: never });
    await using raw = await RawSender.connect(nats.url, inbound.ticket, 4096);
    raw.open();
    const { objects } = inbound.ticket;
    const offeredBytes = BigInt(bytesBefore(objects, 0));
    raw.say({ $case: 'progress', value: { offeredBytes, publishedBytes: 0n, wantMissing: false, finishedLayers: 0 } });
    await eventually(() => raw.credit() > 0 || undefined, { what: 'credit' });
    const state = objects.findIndex(({ kind }) => kind === 'state');
    const part = raw.table.find(state, 0) ?? expect.fail();
    for (let i = 0; i < 16; i++) raw.publish(raw.frame(part.index));
    await expect(inbound.committed).rejects.toMatchObject({ reason: 'beyond_credit' });
    expect(bytesOf(receiver.pool, pages.pages, layout, objects[state] as KvObject).every((b) => b === UNTOUCHED)).toBe(true);
  });

  test('are asked for again when they are lost, as everything else is', async () => {
    await using receiver = await worker('d0');
    using pages = receiver.pool.reserve(PAGES) ?? expect.fail();
    const inbound = receiver.endpoint.receive({ pages, tokens: TOKENS, deadlineMs: 20_000, signal: never });
    await using raw = await RawSender.connect(nats.url, inbound.ticket, 2048);
    raw.open();
    raw.progress(0, 5);
    const { table } = raw;
    const lost = new Map<string, number>();
    for (let index = 0; index < table.partCount; index++) {
      const { kind } = table.object(table.at(index));
      if (!lost.has(kind)) lost.set(kind, index);
    }
    expect([...lost.keys()].sort()).toEqual(['entries', 'state', 'tokens', 'window']);
    for (let index = 0; index < table.partCount; index++) {
      if ([...lost.values()].includes(index)) continue;
      await raw.publishAll([index]);
      if (![...lost.values()].includes(index - 1)) continue;
      // The part before was lost: once the server is known to have had it, exactly it is asked for.
      raw.progress(table.at(index).end, 5);
      const gap = await eventually(() => raw.heard.flatMap(missingParts).find((part) => part === index - 1), {
        what: `a question for part ${index - 1}`,
      });
      raw.publish(raw.frame(gap));
    }
    raw.manifest();
    await inbound.committed;
    let at = 0;
    for (const object of inbound.ticket.objects) {
      const length = geometry.bytes(object);
      expect(bytesOf(receiver.pool, pages.pages, layout, object).equals(raw.raw.subarray(at, at + length))).toBe(true);
      at += length;
    }
    expect(receiver.endpoint.counters.duplicateFrames).toBe(0);
  });

  /** Parts that a Missing message says are not in place, as far as it goes; none for other messages. */
  function missingParts(message: ReceiverMessage): number[] {
    if (message.$case !== 'missing') return [];
    const { firstPart, have } = message.value;
    const bits = Array.from({ length: 8 * have.length }, (_, bit) => bit);
    return bits.filter((bit) => ((have[bit >>> 3] as number) & (1 << (bit & 7))) === 0).map((bit) => firstPart + bit);
  }

  /** Bytes of the last chunk's tokens and entries of the layers from `firstLayer` on. */
  function lastChunk(objects: readonly KvObject[], firstLayer: number): number {
    const late = objects.filter(
      (object) =>
        (object.kind === 'tokens' && object.firstLayer >= firstLayer && object.firstToken >= 192) ||
        (object.kind === 'entries' && object.layer >= firstLayer && object.firstEntry * object.ratio >= 192),
    );
    return late.reduce((sum, object) => sum + geometry.bytes(object), 0);
  }
});
