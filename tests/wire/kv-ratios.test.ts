/** What the codecs make of real KV: SmolLM2's, of English prose (the text of the Apache licence beside the checkpoint). */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createEngine } from '@causeway/engine';
import { blockHashes, fingerprint, type KvDescriptor, type KvDtype, PagePool } from '@causeway/kv';
import { kvRatio } from '@causeway/kv/internal';
import { KvEndpoint } from '@causeway/kv-transport';
import { loadTokenizer, openCheckpoint } from '@causeway/model-files';
import { loadModel } from '@causeway/models';
import { Runtime } from '@causeway/ort';
import { startNats } from '@causeway/testkit';
import { describe, expect, test } from 'vitest';

const folder = join(import.meta.dirname, '../../../shared/models/smollm2-135m-instruct');
const TOKENS = 512;
const never = new AbortController().signal;

/** Pages of SmolLM2's KV of the first tokens of the text, stored as `dtype`. */
async function withRealKv(
  dtype: KvDtype,
  use: (pool: PagePool, pages: NonNullable<ReturnType<PagePool['reserve']>>) => Promise<void>,
): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const checkpoint = stack.use(await openCheckpoint(folder));
  if (checkpoint.tokenizerSource === undefined) expect.fail('the checkpoint has no tokenizer');
  const ids = loadTokenizer(checkpoint.tokenizerSource)
    .encode(readFileSync(join(folder, 'LICENSE'), 'utf8'))
    .slice(0, TOKENS);
  const runtime = stack.use(Runtime.create({ threads: 2 }));
  const model = stack.use(await loadModel({ checkpoint, precision: 'fast' }));
  const descriptor: KvDescriptor = {
    version: 1,
    layers: model.layers,
    storage: { dtype, layout: 'NHD', blockTokens: 16, shards: { count: 1, index: 0 } },
  };
  const print = fingerprint({
    architecture: model.architecture,
    weightsHash: 'w',
    tokenizerHash: 't',
    rope: {},
    layers: model.layers,
  });
  const { vocabSize, contextLength, architecture } = model;
  const info = { name: 'smollm2', architecture, vocabSize, contextLength, eosTokenIds: [], fingerprint: print, descriptor };
  const pool = stack.use(new PagePool({ descriptor, pageCount: 2 * (TOKENS / 16) }));
  const engine = stack.use(
    await createEngine({ runtime, model, info, pool, maxSequences: 1, maxContext: TOKENS + 16, chunkTokens: 256 }),
  );
  expect(blockHashes({ fingerprint: print, salt: '', blockTokens: 16, tokenIds: Uint32Array.from(ids) })).toHaveLength(
    TOKENS / 16,
  );
  const pages = stack.use(pool.reserve(TOKENS / 16) ?? expect.fail('no pages'));
  const sampling = { temperature: 0, topP: 1, topK: 0, seed: 0n };
  const prompt = {
    promptIds: Uint32Array.from(ids),
    replayIds: new Uint32Array(),
    maxTokens: 1,
    stopTokenIds: [],
    ignoreEos: true,
    sampling,
    firstPosition: 0,
  };
  await engine.prefill(prompt, pages, never);
  await use(pool, pages);
}

describe.skipIf(!existsSync(folder))('codecs on KV of SmolLM2', () => {
  // kv-compression-facts: planes+zstd f32 1.19-1.22, f16 1.17-1.20, bf16 1.46-1.50 on another text and whole layers; "about" is 3 %
  test.each([
    ['f32', 1.155],
    ['f16', 1.135],
    ['bf16', 1.425],
  ] as const)('planes+zstd shrinks %s by %f or more, and more than zstd alone', async (dtype, least) => {
    await withRealKv(dtype, async (pool, pages) => {
      const bytes = Buffer.concat(pages.pages.map((page) => pool.bytes(page)));
      const ratio = kvRatio(bytes, dtype, pool.pageBytes);
      console.log(`${dtype}: zstd ${ratio.zstd.toFixed(3)}, planes+zstd ${ratio['planes+zstd'].toFixed(3)}`);
      expect(ratio['planes+zstd']).toBeGreaterThan(least);
      expect(ratio['planes+zstd']).toBeGreaterThan(ratio.zstd);
    });
  });

  test('bf16 pages arrive bit by bit, and the bytes sent are those of the ratio', async () => {
    await withRealKv('bf16', async (pool, pages) => {
      await using nats = await startNats();
      using target = new PagePool({ descriptor: pool.descriptor, pageCount: TOKENS / 16 });
      const { layers } = pool.descriptor;
      const print = fingerprint({ architecture: 'llama', weightsHash: 'w', tokenizerHash: 't', rope: {}, layers });
      const options = { servers: nats.url, fingerprint: print, chip: 'cpu', codec: 'planes+zstd' as const };
      await using sender = await KvEndpoint.connect({ ...options, workerId: 'p', pool });
      await using receiver = await KvEndpoint.connect({ ...options, workerId: 'd', pool: target });
      using to = target.reserve(TOKENS / 16) ?? expect.fail('no pages');
      const inbound = receiver.receive({ pages: to, tokens: TOKENS, deadlineMs: 30_000, signal: never });
      const stats = await sender.send({ ticket: inbound.ticket, pages, signal: never }).finish({});
      await inbound.committed;
      expect(stats.rawBytes / stats.sentBytes).toBeGreaterThan(1.42);
      for (const [index, page] of pages.pages.entries()) {
        expect(Buffer.compare(pool.bytes(page), target.bytes(to.pages[index] as number))).toBe(0);
      }
    });
  });
});
