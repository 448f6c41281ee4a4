import { type FloatDtype, type KvCodec, type KvDescriptor, type LayerGeometry, layerSections } from '@causeway/kv';
import { startNats } from '@causeway/testkit';
import { describe, expect, test } from 'vitest';
import { makeDescriptor, makeWorker, smoothKv } from './test-workers.ts';

const FULL: LayerGeometry[] = Array.from({ length: 4 }, () => ({ kind: 'full', kvHeads: 3, headDimK: 64, headDimV: 64 }));
const LATENT: LayerGeometry[] = Array.from({ length: 3 }, () => ({ kind: 'latent', rank: 96, ropeDim: 16 }));

async function transferOnce(descriptor: KvDescriptor, codec: 'auto' | KvCodec, tokens: number, servers: string) {
  await using sender = await makeWorker({ servers, descriptor, workerId: 'p0', codec, pages: 64 });
  await using receiver = await makeWorker({ servers, descriptor, workerId: 'd0', codec: 'auto', pages: 64 });
  const blocks = Math.ceil(tokens / descriptor.storage.blockTokens);
  using from = sender.pool.reserve(blocks) ?? expect.fail('no pages');
  // occupy a page so that indices differ between the two sides
  using _other = receiver.pool.reserve(1);
  using to = receiver.pool.reserve(blocks) ?? expect.fail('no pages');
  for (const [index, page] of from.pages.entries())
    smoothKv(sender.pool.bytes(page), descriptor.storage.dtype as FloatDtype, index + 1);
  const signal = new AbortController().signal;
  const inbound = receiver.endpoint.receive({ pages: to, tokens, deadlineMs: 20_000, signal });
  const outbound = sender.endpoint.send({ ticket: inbound.ticket, pages: from, signal });
  outbound.offer(Math.floor(tokens / 2));
  const [stats, committed] = await Promise.all([outbound.finish({ firstToken: 42 }), inbound.committed]);
  expect(to.state).toBe('committed');
  expect(committed.firstToken).toBe(42);
  return {
    stats,
    committed,
    sender,
    receiver,
    equal: equalTokens(descriptor, tokens, sender.pool, from.pages, receiver.pool, to.pages),
  };
}

type Pool = Awaited<ReturnType<typeof makeWorker>>['pool'];

function equalTokens(
  descriptor: KvDescriptor,
  tokens: number,
  a: Pool,
  aPages: readonly number[],
  b: Pool,
  bPages: readonly number[],
): boolean {
  const size = descriptor.storage.dtype === 'f32' ? 4 : 2;
  const { blockTokens } = descriptor.storage;
  return aPages.every((page, index) => {
    const used = Math.min(blockTokens, tokens - index * blockTokens);
    const left = a.bytes(page);
    const right = b.bytes(bPages[index] as number);
    let offset = 0;
    for (const layer of descriptor.layers) {
      for (const { width } of layerSections(layer)) {
        const bytes = used * width * size;
        if (Buffer.compare(left.subarray(offset, offset + bytes), right.subarray(offset, offset + bytes)) !== 0) return false;
        offset += blockTokens * width * size;
      }
    }
    return true;
  });
}

describe('a transfer between two endpoints', () => {
  for (const codec of ['none', 'zstd', 'planes+zstd', 'auto'] as const) {
    for (const dtype of ['f32', 'f16', 'bf16'] as const) {
      test(`carries ${dtype} pages under ${codec} bit by bit`, async () => {
        await using nats = await startNats();
        const descriptor = makeDescriptor(FULL, dtype, 16);
        const { equal, stats, committed } = await transferOnce(descriptor, codec, 213, nats.url);
        expect(equal).toBe(true);
        expect(stats.rawBytes).toBe(213 * 4 * 2 * 192 * (dtype === 'f32' ? 4 : 2));
        expect(committed.rawBytes).toBe(stats.rawBytes);
        expect(committed.receivedBytes).toBe(stats.sentBytes);
        if (codec !== 'auto') expect(stats.codec).toBe(codec);
      });
    }
  }

  test('carries a latent exactly once per token and layer', async () => {
    await using nats = await startNats();
    const { equal, stats } = await transferOnce(makeDescriptor(LATENT, 'bf16', 16), 'none', 100, nats.url);
    expect(equal).toBe(true);
    expect(stats.rawBytes).toBe(100 * 3 * (96 + 16) * 2);
  });

  test('cuts frames to a max_payload of 65,536', async () => {
    await using nats = await startNats({ maxPayload: 65_536 });
    const { equal, stats } = await transferOnce(makeDescriptor(FULL, 'f32', 64), 'none', 1000, nats.url);
    expect(equal).toBe(true);
    expect(stats.frames).toBeGreaterThan(90);
  });
});
