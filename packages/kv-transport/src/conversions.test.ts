/** Transfers between workers whose storages differ, over a real server. */
import {
  BlockConverter,
  type KvDescriptor,
  type KvStorage,
  type LayerGeometry,
  PageLayout,
  type RoundedWire,
  storageName,
  wireDescriptor,
  wirePageBytes,
} from '@causeway/kv';
import { eventually, startNats } from '@causeway/testkit';
import { describe, expect, test } from 'vitest';
import { makeWorker, type TestWorker } from './test-workers.ts';

const LAYERS: LayerGeometry[] = [
  { kind: 'full', kvHeads: 4, headDimK: 32, headDimV: 16 },
  { kind: 'latent', rank: 64, ropeDim: 16 },
];
const TOKENS = 300;
const one = { count: 1, index: 0 };
const never = new AbortController().signal;
const descriptorOf = (storage: KvStorage): KvDescriptor => ({ version: 1, layers: LAYERS, storage });

const PLAIN: KvStorage = { dtype: 'f32', layout: 'NHD', blockTokens: 16, shards: one };
const NVIDIA: KvStorage = { dtype: 'bf16', layout: 'HND', blockTokens: 64, shards: one };
const ASCEND: KvStorage = { dtype: 'bf16', layout: 'NZ', blockTokens: 128, shards: one, latent: 'split' };
const INT8: KvStorage = { dtype: 'int8', layout: 'HND', blockTokens: 16, shards: one };

const blocks = ({ blockTokens }: KvStorage): number => Math.ceil(TOKENS / blockTokens);
const f32 = { dtype: 'f32' } as const;

/** Fills pages with the numbers of `seed`. */
function fill(worker: TestWorker, storage: KvStorage, pages: readonly number[], seed: number): void {
  const descriptor = descriptorOf(storage);
  const converter = new BlockConverter(descriptor, f32);
  const wire = new Float32Array(wirePageBytes(wireDescriptor(descriptor, f32)) / 4);
  for (const [block, page] of pages.entries()) {
    for (let i = 0; i < wire.length; i++) wire[i] = Math.sin(seed + block * 31 + i * 0.731) * 4;
    converter.fromWire(new Uint8Array(wire.buffer), worker.pool.bytes(page));
  }
}

/** The numbers of all tokens in wire order, f32. */
function numbers(worker: TestWorker, storage: KvStorage, pages: readonly number[]): Buffer {
  const descriptor = descriptorOf(storage);
  const converter = new BlockConverter(descriptor, f32);
  const form = wireDescriptor(descriptor, f32);
  const wire = pages.map((page) => {
    const bytes = new Uint8Array(wirePageBytes(form));
    converter.toWire(worker.pool.bytes(page), bytes);
    return bytes;
  });
  const runs = new PageLayout(form).segments({ kind: 'tokens', firstLayer: 0, layerCount: 2, firstToken: 0, tokenCount: TOKENS });
  // a tokens object of both layers has each section token after token, whatever the block
  return Buffer.concat(runs.map(({ page, offset, length }) => (wire[page] as Uint8Array).subarray(offset, offset + length)));
}

async function pair(
  servers: string,
  from: KvStorage,
  to: KvStorage,
  lossy: boolean | [boolean, boolean] = true,
  rounded?: RoundedWire,
) {
  const [sends, takes] = Array.isArray(lossy) ? lossy : [lossy, lossy];
  const stack = new AsyncDisposableStack();
  const worker = async (workerId: string, storage: KvStorage, allowed: boolean) =>
    stack.use(
      await makeWorker({
        servers,
        workerId,
        codec: 'auto',
        lossy: allowed,
        rounded,
        descriptor: descriptorOf(storage),
        pages: 2 * blocks(storage),
      }),
    );
  const sender = await worker('p0', from, sends);
  const receiver = await worker('d0', to, takes);
  const source = sender.pool.reserve(blocks(from)) ?? expect.fail();
  const target = receiver.pool.reserve(blocks(to)) ?? expect.fail();
  fill(sender, from, source.pages, 1);
  const inbound = receiver.endpoint.receive({ pages: target, tokens: TOKENS, deadlineMs: 20_000, signal: never });
  return { sender, receiver, source, target, inbound, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

describe('a transfer between storages', () => {
  const pairs: [KvStorage, KvStorage, boolean][] = [
    [NVIDIA, ASCEND, true],
    [ASCEND, NVIDIA, true],
    [NVIDIA, PLAIN, true],
    [PLAIN, ASCEND, false],
    [INT8, PLAIN, true],
    [PLAIN, INT8, false],
    [INT8, INT8, true],
    [INT8, ASCEND, false],
  ];
  test.each(pairs.map(([from, to, lossless]) => ({ name: `${storageName(from)} to ${storageName(to)}`, from, to, lossless })))(
    '$name',
    async ({ from, to, lossless }) => {
      await using nats = await startNats();
      await using t = await pair(nats.url, from, to);
      const outbound = t.sender.endpoint.send({ ticket: t.inbound.ticket, pages: t.source, signal: never });
      for (let end = 70; end < TOKENS; end += 70) outbound.offer(end);
      const [stats, committed] = await Promise.all([outbound.finish({}), t.inbound.committed]);
      expect(committed.representation).toEqual({
        sender: storageName(from),
        receiver: storageName(to),
        wire: stats.representation.wire,
        lossless,
      });
      expect(t.target.state).toBe('committed');
      const [sent, kept] = [numbers(t.sender, from, t.source.pages), numbers(t.receiver, to, t.target.pages)];
      if (lossless) expect(kept.equals(sent)).toBe(true);
      else {
        const far = Array.from({ length: sent.length / 4 }, (_, i) =>
          Math.abs(sent.readFloatLE(4 * i) - kept.readFloatLE(4 * i)),
        );
        expect(Math.max(...far.slice(0, 10_000))).toBeGreaterThan(0);
        expect(far.every((distance) => distance < 0.04)).toBe(true);
      }
      expect(committed.rawBytes).toBe(stats.rawBytes);
      await eventually(() => t.source.holds === 0 && t.target.holds === 0, { what: 'nobody holding pages' });
    },
  );

  test.each([
    [PLAIN, PLAIN, 'int8', 0.04],
    [PLAIN, PLAIN, 'int4', 0.6],
    [NVIDIA, ASCEND, 'int8', 0.06],
    [NVIDIA, ASCEND, 'int4', 0.6],
    [NVIDIA, PLAIN, 'int4', 0.6],
  ] as [KvStorage, KvStorage, RoundedWire, number][])(
    'from %o to %o in %s, as the sender is told, is rounded and says so',
    async (from, to, rounded, most) => {
      await using nats = await startNats();
      await using t = await pair(nats.url, from, to, true, rounded);
      const outbound = t.sender.endpoint.send({ ticket: t.inbound.ticket, pages: t.source, signal: never });
      const [stats, committed] = await Promise.all([outbound.finish({}), t.inbound.committed]);
      expect(committed.representation).toMatchObject({ wire: rounded, lossless: false });
      expect(stats.representation).toEqual(committed.representation);
      const width = { int8: 1, int4: 0.5, f16: 2, bf16: 2 }[rounded];
      // 192 numbers in 8 heads, a latent of 64 numbers and 16 rotary ones, which have a factor together or stay 16 bits
      const latent = from === NVIDIA && to === ASCEND ? 64 * width + 4 + 16 * 2 : 80 * width + 4;
      expect(stats.rawBytes).toBe(TOKENS * (192 * width + 8 * 4 + latent));
      const [sent, kept] = [numbers(t.sender, from, t.source.pages), numbers(t.receiver, to, t.target.pages)];
      const far = Array.from({ length: sent.length / 4 }, (_, i) => Math.abs(sent.readFloatLE(4 * i) - kept.readFloatLE(4 * i)));
      expect(Math.max(...far.slice(0, 10_000))).toBeGreaterThan(0);
      expect(far.every((distance) => distance < most)).toBe(true);
    },
  );

  test('is exact, whatever the sender is told, where the receiver forbids rounding', async () => {
    await using nats = await startNats();
    await using t = await pair(nats.url, NVIDIA, ASCEND, [true, false], 'int4');
    const outbound = t.sender.endpoint.send({ ticket: t.inbound.ticket, pages: t.source, signal: never });
    const [, committed] = await Promise.all([outbound.finish({}), t.inbound.committed]);
    expect(committed.representation).toMatchObject({ wire: 'bf16', lossless: true });
  });

  test('outlives the server, which is killed once the transfer is open, and comes out exact', async () => {
    await using nats = await startNats();
    await using t = await pair(nats.url, NVIDIA, ASCEND);
    const outbound = t.sender.endpoint.send({ ticket: t.inbound.ticket, pages: t.source, signal: never });
    outbound.offer(150);
    const finished = outbound.finish({});
    await nats.signal('KILL');
    await nats.start();
    await Promise.all([finished, t.inbound.committed]);
    expect(numbers(t.receiver, ASCEND, t.target.pages).equals(numbers(t.sender, NVIDIA, t.source.pages))).toBe(true);
  });

  test.each([
    ['neither end', false],
    ['the sender', [false, true]],
    ['the receiver', [true, false]],
  ] as [string, boolean | [boolean, boolean]][])(
    'is refused before any work when it would round and %s allows it not',
    async (_, lossy) => {
      await using nats = await startNats();
      await using t = await pair(nats.url, PLAIN, ASCEND, lossy);
      expect(() => t.sender.endpoint.send({ ticket: t.inbound.ticket, pages: t.source, signal: never })).toThrow(
        expect.objectContaining({
          reason: 'descriptor_mismatch',
          message: expect.stringContaining('f32 NHD 16 to bf16 NZ 128 split rounds'),
        }),
      );
      t.inbound.cancel('done');
      await t.inbound.committed.catch(() => undefined);
    },
  );

  test('is refused by the receiver when the sender announces a form that the ticket does not allow', async () => {
    await using nats = await startNats();
    await using t = await pair(nats.url, PLAIN, ASCEND, [true, false]);
    // a sender that believes what no ticket says
    const ticket = { ...t.inbound.ticket, lossy: true };
    const outbound = t.sender.endpoint.send({ ticket, pages: t.source, signal: never });
    await expect(outbound.finish({})).rejects.toThrow(/would round numbers, which the ticket forbids/);
    await expect(t.inbound.committed).rejects.toThrow(/forbids/);
    expect(t.target.state).toBe('reserved');
  });

  test('that is given up while blocks are converted leaves no hold on pages', async () => {
    await using nats = await startNats();
    await using t = await pair(nats.url, NVIDIA, ASCEND);
    const outbound = t.sender.endpoint.send({ ticket: t.inbound.ticket, pages: t.source, signal: never });
    outbound.offer(TOKENS);
    outbound.abort('changed my mind');
    await expect(outbound.finish({})).rejects.toThrow(/changed my mind/);
    await expect(t.inbound.committed).rejects.toThrow(/gave the KV transfer up|deadline/);
    await eventually(() => t.source.holds === 0 && t.target.holds === 0, { what: 'nobody holding pages' });
    expect(t.target.state).not.toBe('committed');
  });
});
