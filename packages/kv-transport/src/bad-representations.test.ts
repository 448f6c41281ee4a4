/** Senders that say one thing of their KV and send another, or what no receiver can hold, against real endpoints. */
import type { KvDescriptor, KvStorage, LayerGeometry } from '@causeway/kv';
import { kvV1 } from '@causeway/proto';
import { eventually, startNats } from '@causeway/testkit';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { RawSender } from './test-raw-peers.ts';
import { makeFingerprint, makeWorker, type TestWorker } from './test-workers.ts';
import type { InboundTransfer, Ticket } from './types.ts';
import { descriptorToProto, fingerprintFromProto } from './wire-types.ts';

const LAYERS: LayerGeometry[] = [{ kind: 'full', kvHeads: 4, headDimK: 16, headDimV: 16 }];
const one = { count: 1, index: 0 };
const INT8: KvStorage = { dtype: 'int8', layout: 'HND', blockTokens: 16, shards: one };
const BF16: KvStorage = { dtype: 'bf16', layout: 'NHD', blockTokens: 16, shards: one };
const TOKENS = 32;
const FACTOR_BYTES = 4;
const never = new AbortController().signal;
const descriptorOf = (storage: KvStorage): KvDescriptor => ({ version: 1, layers: LAYERS, storage });

let nats: Awaited<ReturnType<typeof startNats>>;
beforeAll(async () => {
  nats = await startNats();
});
afterAll(() => nats[Symbol.asyncDispose]());

interface Scene extends AsyncDisposable {
  receiver: TestWorker;
  inbound: InboundTransfer;
  sender: RawSender;
}

/** A receiver that stores `storage`, and a sender by hand that cuts objects as if numbers travelled as `sent`. */
async function scene(storage: KvStorage, sent = storage, layers = LAYERS): Promise<Scene> {
  const stack = new AsyncDisposableStack();
  const receiver = stack.use(
    await makeWorker({
      servers: nats.url,
      descriptor: { ...descriptorOf(storage), layers },
      workerId: 'd0',
      codec: 'none',
      pages: 4,
      lossy: true,
    }),
  );
  const pages = receiver.pool.reserve(3) ?? expect.fail('no pages');
  const inbound = receiver.endpoint.receive({ pages, tokens: TOKENS, deadlineMs: 30_000, signal: never });
  const as: Ticket = { ...inbound.ticket, descriptor: { ...descriptorOf(sent), layers } };
  const sender = stack.use(await RawSender.connect(nats.url, as));
  return {
    receiver,
    inbound,
    sender,
    [Symbol.asyncDispose]: async () => {
      inbound.cancel('end of test');
      await inbound.committed.catch(() => undefined);
      pages[Symbol.dispose]();
      await eventually(() => receiver.pool.freePages === receiver.pool.totalPages || undefined, { what: 'all pages back' });
      expect(pages.state).toBe('released');
      await stack.disposeAsync();
    },
  };
}

/** The raw bytes of int8 in wire order: rows of codes, each followed by its factors. */
function writeFactors(raw: Uint8Array, factor: (index: number) => number): void {
  const view = new DataView(raw.buffer, raw.byteOffset, raw.length);
  const [heads, width] = [4, 16];
  const row = heads * width + heads * FACTOR_BYTES;
  for (let start = 0, index = 0; start < raw.length; start += row)
    for (let head = 0; head < heads; head++) view.setFloat32(start + heads * width + head * FACTOR_BYTES, factor(index++), true);
}

async function sendWhole({ sender, inbound }: Scene): Promise<unknown> {
  await sender.openAndOffer();
  await sender.publishAll();
  sender.manifest();
  return inbound.committed;
}

describe('factors of int8', () => {
  test('that are numbers are taken', async () => {
    await using it = await scene(INT8);
    writeFactors(it.sender.raw, (index) => 0.5 + index);
    await expect(sendWhole(it)).resolves.toMatchObject({ rawBytes: it.sender.raw.length });
  });

  test.each([
    ['NaN', Number.NaN],
    ['infinite', Number.POSITIVE_INFINITY],
    ['negative', -1],
  ])('of which the last is %s refuse the transfer before anything is committed', async (_, bad) => {
    await using it = await scene(INT8);
    const count = it.sender.raw.length / (16 + FACTOR_BYTES);
    writeFactors(it.sender.raw, (index) => (index === count - 1 ? bad : 1));
    await expect(sendWhole(it)).rejects.toMatchObject({
      reason: 'malformed_frame',
      message: expect.stringMatching(/the factor of token 15 of the block, head 3 is .*: factors are finite and not negative/),
    });
    await eventually(() => it.sender.last('refused'), { what: 'the refusal' });
    expect(it.receiver.endpoint.counters.transfersCommitted).toBe(0);
  });

  test('that are left out make frames of a size that the table does not have', async () => {
    await using it = await scene(INT8, { ...INT8, dtype: 'f8e4m3' });
    it.sender.open({ descriptor: descriptorToProto(descriptorOf(INT8)) });
    it.sender.progress();
    await eventually(() => it.sender.credit() > 0 || undefined, { what: 'credit' });
    for (let i = 0; i < 16; i++) it.sender.publish(it.sender.frame(0));
    await expect(it.inbound.committed).rejects.toMatchObject({ reason: 'malformed_frame' });
  });
});

describe('a peer that says one form and sends another', () => {
  test.each([
    ['bf16', 'f32'],
    ['f32', 'bf16'],
    ['bf16', 'int8'],
  ] as const)('says %s and sends %s', async (said, sent) => {
    await using it = await scene(BF16, { ...BF16, dtype: sent });
    it.sender.open({
      descriptor: descriptorToProto(descriptorOf(BF16)),
      wire: {
        dtype: said === 'f32' ? kvV1.KvDtype.KV_DTYPE_F32 : kvV1.KvDtype.KV_DTYPE_BF16,
        splitLatent: false,
        scale: undefined,
      },
    });
    it.sender.progress();
    await eventually(() => it.sender.credit() > 0 || undefined, { what: 'credit' });
    for (let i = 0; i < 16; i++) it.sender.publish(it.sender.frame(0));
    await expect(it.inbound.committed).rejects.toMatchObject({ reason: 'malformed_frame' });
    expect(it.receiver.endpoint.counters.transfersCommitted).toBe(0);
  });

  test('says the size of another form in its manifest', async () => {
    await using it = await scene(BF16, { ...BF16, dtype: 'f32' });
    it.sender.open({ descriptor: descriptorToProto(descriptorOf(BF16)) });
    it.sender.manifest();
    await expect(it.inbound.committed).rejects.toThrow(/the manifest names .* bytes; the object table has/);
  });
});

describe('an Open', () => {
  const wire = (change: Partial<kvV1.KvWireForm>): kvV1.KvWireForm => ({
    dtype: kvV1.KvDtype.KV_DTYPE_F8E4M3,
    splitLatent: false,
    scale: undefined,
    ...change,
  });
  const stored = (change: Partial<kvV1.KvStorage>) => {
    const descriptor = descriptorToProto(descriptorOf(BF16));
    return { ...descriptor, storage: { ...(descriptor.storage as kvV1.KvStorage), ...change } };
  };

  test.each<[string, Parameters<RawSender['open']>[0], RegExp]>([
    ['of a newer descriptor', { descriptor: { ...stored({}), version: 2 } }, /has version 2; this process understands 1/],
    ['without a descriptor', { descriptor: undefined }, /bad KV descriptor/],
    ['without a fingerprint', { fingerprint: undefined }, /bad fingerprint/],
    ['with a scale that is NaN', { wire: wire({ scale: Number.NaN }) }, /scale NaN of f8e4m3/],
    ['with a scale of 0', { wire: wire({ scale: 0 }) }, /scale 0 of f8e4m3/],
    ['with an infinite scale', { wire: wire({ scale: Number.POSITIVE_INFINITY }) }, /scale Infinity of f8e4m3/],
    [
      'with a stored scale that is NaN',
      { descriptor: stored({ dtype: kvV1.KvDtype.KV_DTYPE_F8E4M3, scale: Number.NaN }) },
      /storage\.scale/,
    ],
    ['with a scale of what has none', { descriptor: stored({ scale: 2 }) }, /scale belongs to f8e4m3/],
    ['with a shard that there is not', { descriptor: stored({ shardCount: 2, shardIndex: 2 }) }, /shards\.index must be below/],
    ['with all shards of one', { descriptor: stored({ allShards: true }) }, /shards\.all belongs to/],
    [
      'with shards that heads can not be dealt to',
      { descriptor: stored({ shardCount: 3 }) },
      /can't be dealt to 3 shards evenly/,
    ],
    ['with blocks of 2^32 - 1 tokens', { descriptor: stored({ blockTokens: 0xffff_ffff }) }, /storage\.blockTokens/],
    [
      'whose sizes multiply to more than a page may have',
      {
        descriptor: {
          ...stored({ blockTokens: 4096 }),
          layers: Array.from({ length: 1024 }, () => ({
            kind: { $case: 'full' as const, value: { kvHeads: 4096, headDimK: 4096, headDimV: 4096 } },
            window: undefined,
            entries: [],
            states: [],
          })),
        },
      },
      /a page would take \d+ bytes; the limit is/,
    ],
    [
      'with half of the heads',
      { descriptor: stored({ shardCount: 2, shardIndex: 1 }) },
      /holds heads 2 to 3 of layer 0, the receiver needs 0 to 3/,
    ],
  ])('%s is refused, saying why', async (_, change, message) => {
    await using it = await scene(BF16);
    it.sender.open(change);
    await expect(it.inbound.committed).rejects.toThrow(message);
    await eventually(() => it.sender.last('refused'), { what: 'the refusal' });
    expect(it.inbound.ticket.fingerprint).toEqual(fingerprintFromProto({ ...makeFingerprint(descriptorOf(BF16)) }));
  });
});

test('an Open by which windows would travel in another form than they are stored in is refused', async () => {
  const [layer] = LAYERS as [LayerGeometry];
  const f32: KvStorage = { ...BF16, dtype: 'f32' };
  await using it = await scene(f32, f32, [layer, { ...layer, window: 16 }]);
  it.sender.open({ wire: { dtype: kvV1.KvDtype.KV_DTYPE_BF16, splitLatent: false, scale: undefined } });
  await expect(it.inbound.committed).rejects.toThrow(
    expect.objectContaining({ reason: 'descriptor_mismatch', message: expect.stringContaining('object 1 holds window') }),
  );
});

test('a sender that holds other heads than the receiver needs refuses before any work', async () => {
  const shard = (index: number): KvStorage => ({ ...BF16, shards: { count: 2, index } });
  await using it = await scene(shard(0));
  await using other = await makeWorker({
    servers: nats.url,
    descriptor: descriptorOf(shard(1)),
    workerId: 'p0',
    codec: 'none',
    pages: 4,
  });
  using pages = other.pool.reserve(2) ?? expect.fail('no pages');
  expect(() => other.endpoint.send({ ticket: it.inbound.ticket, pages, signal: never })).toThrow(
    expect.objectContaining({
      reason: 'descriptor_mismatch',
      message: expect.stringContaining('the sender holds heads 2 to 3 of layer 0, the receiver needs 0 to 1'),
    }),
  );
});
