/** Bytes: what a token takes, what NATS counts, what Python reads, how well it compresses. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { PageLayout } from '@causeway/kv';
import { codecFromProto, codecToProto, descriptorFromProto } from '@causeway/kv-transport';
import { objectFromProto } from '@causeway/kv-transport/internal';
import type { kvV1 } from '@causeway/proto';
import { eventually, scrape } from '@causeway/testkit';
import { slotTokenBytes } from '@causeway/worker-runtime';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { recordsOf, type TappedFrame, tapFrames } from './frame-tap.ts';
import {
  engineAlone,
  engineGeneration,
  goldenPrompts,
  heldAt,
  idle,
  needsSmollm2,
  prose,
  release,
  SMOLLM2,
  startTestCluster,
  type TestCluster,
  TINY_MOE,
  withoutSmollm2,
} from './harness.ts';

const run = promisify(execFile);
const DECODER = fileURLToPath(new URL('../../wire/decode_frames.py', import.meta.url));
const withoutPython = await run('python3', ['--version']).then(
  () => false,
  () => true,
);

const BUDGET = 1 << 30;
const CONTEXT = 2048;
const BLOCK = 32;
const SEQUENCES = 2;
const HEADER_BYTES = 64;

/** Elements of one token's KV, from the models' config files. */
const MODELS = [
  // kv_lora_rank 48 + qk_rope_head_dim 16, in each of 5 layers
  { model: 'tiny-moe (MLA)', path: TINY_MOE, elements: (48 + 16) * 5, skip: false, note: '' },
  // K and V of 3 heads of 64, in each of 30 layers
  { model: 'SmolLM2 (GQA)', path: SMOLLM2, elements: 2 * 3 * 64 * 30, skip: withoutSmollm2, note: ` ${needsSmollm2}` },
];
const DTYPES = [
  { dtype: 'f32', elementBytes: 4, atLeast: 1.15 },
  { dtype: 'bf16', elementBytes: 2, atLeast: 1.4 },
] as const;
const CASES = MODELS.flatMap((model) => DTYPES.map((dtype) => ({ ...model, ...dtype })));

describe.each(CASES)('$model, $dtype pages', ({ path, elements, skip, note, dtype, elementBytes, atLeast }) => {
  const name = `${note === '' ? 'tiny-moe' : 'SmolLM2'} ${dtype}`;
  const tokenBytes = elements * elementBytes;
  const env = { CAUSEWAY_KV_DTYPE: dtype, CAUSEWAY_BLOCK_TOKENS: String(BLOCK), CAUSEWAY_MAX_SEQUENCES: String(SEQUENCES) };
  let folder: string;
  let recording: string;
  let cluster: TestCluster;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'causeway-bytes-'));
    recording = join(folder, 'frames');
    if (skip) return;
    cluster = await startTestCluster({
      model: path,
      prefill: 3,
      nats: { maxPayload: 131_072 },
      workerEnv: { ...env, CAUSEWAY_KV_BUDGET_BYTES: String(BUDGET), CAUSEWAY_MAX_CONTEXT: String(CONTEXT) },
      env: {
        'prefill-1': { CAUSEWAY_KV_CODEC: 'none' },
        'prefill-2': { CAUSEWAY_KV_CODEC: 'planes+zstd' },
        // Holds its one transfer when everything but the manifest has left.
        'prefill-3': {
          CAUSEWAY_KV_CODEC: 'none',
          CAUSEWAY_KV_RECORD: recording,
          CAUSEWAY_FAILPOINTS: 'sent:1=pause',
          CAUSEWAY_FAILPOINT_DIR: folder,
        },
      },
    });
  });
  afterAll(async () => {
    await cluster?.[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  });

  it.skipIf(skip)(`every token takes exactly its elements on the wire${note}`, async () => {
    const promptIds = (await goldenPrompts(path)).at(-1)!;
    const kvBytes = promptIds.length * tokenBytes;
    await using tap = await tapFrames(cluster.nats.url);
    const plain = await cluster.attempt({ promptIds, maxTokens: 2 });
    await tap.flush();
    expect(plain.sent?.stats).toMatchObject({ rawBytes: BigInt(kvBytes), codec: codecToProto('none') });
    expect(plain.kv).toMatchObject({ rawBytes: BigInt(kvBytes), prefilledTokens: 0 });
    // Codec none: what was published is the KV, and a header for each frame.
    expect(total(tap.frames, 'rawBytes')).toBe(kvBytes);
    expect(total(tap.frames, 'bytes')).toBe(kvBytes + HEADER_BYTES * tap.frames.length);
    expect(plain.sent?.stats?.sentBytes).toBe(BigInt(total(tap.frames, 'bytes')));
    expect(plain.kv?.receivedBytes).toBe(plain.sent?.stats?.sentBytes);

    const before = tap.frames.length;
    const encoded = await cluster.attempt({ promptIds, maxTokens: 2 }, { prefill: 'prefill-2' });
    await tap.flush();
    expect(encoded.sent?.stats).toMatchObject({ rawBytes: BigInt(kvBytes), codec: codecToProto('planes+zstd') });
    expect(total(tap.frames.slice(before), 'rawBytes')).toBe(kvBytes);
    expect(encoded.sent?.stats?.sentBytes).toBe(BigInt(total(tap.frames.slice(before), 'bytes')));
  });

  it.skipIf(skip || withoutPython)(
    `pages hold exactly the tokens, and Python reads their bytes from recorded frames${note}`,
    async () => {
      const promptIds = (await goldenPrompts(path)).findLast((prompt) => prompt.length * tokenBytes < 2 << 20)!;
      const [prefill, decode] = [cluster.worker('prefill-3'), cluster.worker('decode-1')];
      await idle(decode);
      let ticket: kvV1.Ticket | undefined;
      const running = cluster.attempt(
        { promptIds, maxTokens: 100, ignoreEos: true },
        {
          prefill: 'prefill-3',
          onEvent: ({ event }) => {
            if (event?.$case === 'ticket') ticket = event.value;
          },
        },
      );
      running.catch(() => undefined);
      await heldAt(folder, 'sent', prefill);
      const atPrefill = await scrape(prefill);
      const atDecode = await scrape(decode);
      await release(folder, 'sent');
      const result = await running;
      expect(result.tokens).toHaveLength(100);

      // Accounting: pages in use, and the budget less the slots divided into pages of exactly BLOCK tokens.
      expect(atPrefill('causeway_kv_pages', { state: 'used' })).toBe(Math.ceil(promptIds.length / BLOCK));
      expect(atDecode('causeway_kv_pages', { state: 'used' })).toBe(Math.ceil((promptIds.length + 100) / BLOCK));
      const descriptor = descriptorFromProto(ticket!.descriptor);
      const slots = (SEQUENCES + 1) * CONTEXT * slotTokenBytes(descriptor.layers);
      expect(atDecode('causeway_kv_pages')).toBe(Math.floor((BUDGET - slots) / (BLOCK * tokenBytes)));

      // The recording is complete once the sender has ended; it begins with what the worker sent itself to warm up.
      await prefill.process.stop();
      const transfer = Buffer.from(ticket!.transferId).toString('hex');
      await writeFile(recording, Buffer.concat(await recordsOf(recording, transfer)));
      const { stdout } = await run('python3', [DECODER, recording, '--page-bytes', String(1 << 20)], { maxBuffer: 64 << 20 });
      const report = JSON.parse(stdout) as PythonReport;
      expect(report).toMatchObject({
        problems: [],
        transfers: [transfer],
        frames: result.sent?.stats?.frames,
        rawBytes: promptIds.length * tokenBytes,
        frameBytes: Number(result.sent?.stats?.sentBytes),
        objectSha256: await hashesAlone(promptIds, ticket!),
      });
      console.log(`${name}: ${tokenBytes} bytes per token; Python read ${report.rawBytes} bytes of ${report.frames} frames`);
    },
  );

  /** SHA-256 of each object of the ticket, from the pages of an engine that never met a network. */
  async function hashesAlone(promptIds: number[], { objects }: kvV1.Ticket): Promise<string[]> {
    await using alone = await engineAlone(path, env);
    const { engine, pool } = alone;
    const signal = new AbortController().signal;
    using pages = await engine.reserve(promptIds.length, signal);
    await engine.prefill(engineGeneration({ promptIds }), pages, signal);
    const layout = new PageLayout(pool.descriptor);
    return objects.map((object) => {
      const hash = createHash('sha256');
      for (const { page, offset, length } of layout.segments(objectFromProto(object, 0))) {
        hash.update(pool.bytes(pages.pages[page]!).subarray(offset, offset + length));
      }
      return hash.digest('hex');
    });
  }

  if (path !== SMOLLM2) return;

  it.skipIf(skip)(
    `NATS itself counts the bytes that are reported, within 5 %, and planes+zstd makes prose smaller${note}`,
    async () => {
      const promptIds = await prose(1000);
      for (const prefill of ['prefill-1', 'prefill-2']) {
        const before = await cluster.nats.varz();
        const result = await cluster.attempt({ promptIds, maxTokens: 2 }, { prefill });
        const { sentBytes, rawBytes, codec, frames } = result.sent!.stats!;
        const log = await cluster
          .worker(prefill)
          .process.waitForLog((line) => line.msg === 'prefilled and sent' && line.sentBytes === Number(sentBytes));
        const after = await eventually(
          async () => {
            const now = await cluster.nats.varz();
            return now.out_bytes - before.out_bytes >= sentBytes ? now : undefined;
          },
          { what: `nats-server counting ${sentBytes} bytes` },
        );
        const ratio = Number(rawBytes) / Number(sentBytes);
        const counted = { in: after.in_bytes - before.in_bytes, out: after.out_bytes - before.out_bytes };
        for (const reported of [Number(sentBytes), Number(log.wireBytes)]) {
          expect(Math.abs(counted.in / reported - 1)).toBeLessThan(0.05);
          expect(Math.abs(counted.out / reported - 1)).toBeLessThan(0.05);
        }
        console.log(
          `${name}, ${codecFromProto(codec)}: ${rawBytes} raw, ${sentBytes} sent in ${frames} frames, ${String(log.wireBytes)} with protocol; ` +
            `nats-server counted ${counted.in} in, ${counted.out} out; ratio ${ratio.toFixed(3)}`,
        );
        if (prefill === 'prefill-2') expect(ratio).toBeGreaterThanOrEqual(atLeast);
      }
    },
  );
});

interface PythonReport {
  frames: number;
  rawBytes: number;
}

function total(frames: readonly TappedFrame[], field: 'rawBytes' | 'bytes'): number {
  return frames.reduce((sum, frame) => sum + frame[field], 0);
}
