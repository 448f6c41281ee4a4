/** KV of early layers leaves, over a real server, while later layers of the last chunk are still to be computed. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ComputeOrder, layerGroups, tokenBytes } from '@causeway/kv';
import { type InboundTransfer, KvEndpoint, type OutboundTransfer } from '@causeway/kv-transport';
import { FRAME_HEADER_BYTES, readFrameHeader } from '@causeway/kv-transport/internal';
import { eventually, startNats } from '@causeway/testkit';
import type { LoadedEngine } from '@causeway/worker-runtime';
import { describe, expect, it } from 'vitest';
import {
  answerAlone,
  type Chosen,
  chosen,
  engineAlone,
  engineGeneration,
  firstDifference,
  goldenPrompts,
  idle,
  startTestCluster,
  TINY_MOE,
} from './harness.ts';

const LAYERS = 5;
/** Chunks end inside blocks of 16 tokens: at 50, 100 and 150. */
const CHUNK = 50;
const PROMPT = 150;
const ENV = { CAUSEWAY_CHUNK_TOKENS: String(CHUNK) };
const GROUPED = { ...ENV, CAUSEWAY_LAYER_GROUPS: '2' };
const order: ComputeOrder = { chunkEnds: [50, 100, 150], groups: layerGroups(LAYERS, 2) };
const never = new AbortController().signal;
const generation = {
  promptIds: Array.from({ length: PROMPT }, (_, i) => (i * 37 + 11) % 250),
  maxTokens: 8,
  ignoreEos: true,
  returnLogits: true,
};

function endpoint(loaded: LoadedEngine, servers: string, workerId: string): Promise<KvEndpoint> {
  const { pool, info } = loaded;
  return KvEndpoint.connect({ servers, workerId, pool, fingerprint: info.fingerprint, chip: 'cpu', codec: 'none' });
}

/** Two engines and two endpoints in this process; prefill stops where `gate` says until it resolves. */
async function startPair(sender: LoadedEngine, receiver: LoadedEngine, servers: string) {
  await using stack = new AsyncDisposableStack();
  const p = stack.use(await endpoint(sender, servers, 'p'));
  const d = stack.use(await endpoint(receiver, servers, 'd'));
  const owned = stack.move();
  return { p, d, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

interface Held {
  inbound: InboundTransfer;
  outbound: OutboundTransfer;
  /** Settles as the prefill does. */
  prefilled: Promise<unknown>;
  /** Group after group, as the engine handed them over. */
  handed: string[];
  letGo(): void;
}

describe('the last chunk', () => {
  it('has its early layers in place at the receiver before its last segment runs, and the answer keeps its bits', async () => {
    await using nats = await startNats();
    await using grouped = await engineAlone(TINY_MOE, GROUPED);
    await using decoder = await engineAlone(TINY_MOE, ENV);
    await using pair = await startPair(grouped, decoder, nats.url);
    const expected = await answerAlone(decoder, generation);
    using to = await decoder.engine.reserve(decoder.engine.room(engineGeneration(generation)), never);
    using from = await grouped.engine.reserve(PROMPT, never);
    const held = hold(pair, grouped, from, to);

    await atGate(pair, grouped, held);
    // The server dies and comes back meanwhile: what is in place is known by the bitmap, and isn't sent again.
    await nats.signal('KILL');
    await nats.start();
    await eventually(() => (pair.p.connected && pair.d.connected) || undefined, { what: 'both back' });
    expect(grouped.engine.stats().prefillTokens).toBe(100);
    held.letGo();
    await held.prefilled;
    expect(held.handed.slice(-2)).toEqual(['150/0', '150/2']);
    const [stats, committed] = await Promise.all([held.outbound.finish({}), held.inbound.committed]);
    expect(stats.resentParts).toBe(0);
    expect(committed.rawBytes).toBe(PROMPT * tokenBytes(decoder.info.descriptor));

    const tokens: Chosen[] = [];
    for await (const { id, logits } of decoder.engine.decode(engineGeneration(generation), to, undefined, never)) {
      tokens.push({ id, logits: Buffer.from(logits!.buffer, logits!.byteOffset, logits!.byteLength) });
    }
    // The first token is recomputed as a step of one token, whose rounding is its own; all others see only the pages.
    expect(tokens.map(({ id }) => id)).toEqual(expected.map(({ id }) => id));
    expect(firstDifference(tokens.slice(1), expected.slice(1))).toBeUndefined();
    expect(decoder.engine.stats().prefillTokens).toBe(PROMPT);
  });

  it('ends in the middle when the transfer fails: nothing more is computed or sent, every page comes back', async () => {
    await using nats = await startNats();
    await using grouped = await engineAlone(TINY_MOE, GROUPED);
    await using decoder = await engineAlone(TINY_MOE, ENV);
    await using pair = await startPair(grouped, decoder, nats.url);
    const to = await decoder.engine.reserve(PROMPT, never);
    const from = await grouped.engine.reserve(PROMPT, never);
    const scope = new AbortController();
    const held = hold(pair, grouped, from, to, scope.signal);
    held.outbound.failed.addEventListener('abort', () => scope.abort(held.outbound.failed.reason));
    await atGate(pair, grouped, held);
    held.inbound.cancel('the client has gone');
    await expect(held.inbound.committed).rejects.toMatchObject({ code: 'cancelled' });
    await eventually(() => held.outbound.failed.aborted || undefined, { what: 'the sender knows' });
    const { framesSent } = pair.p.counters;
    held.letGo();
    await expect(held.prefilled).rejects.toMatchObject({ code: 'cancelled' });
    from[Symbol.dispose]();
    to[Symbol.dispose]();
    await eventually(() => grouped.pool.freePages === grouped.pool.totalPages || undefined, { what: 'pages back' });
    expect(decoder.pool.freePages).toBe(decoder.pool.totalPages);
    expect(held.handed.at(-1)).toBe('150/0');
    expect(grouped.engine.stats()).toMatchObject({ prefillTokens: 100, running: 0, waiting: 0 });
    expect(pair.p.counters.framesSent).toBe(framesSent);
    expect([pair.p.open, pair.d.open]).toEqual(Array(2).fill({ inbound: 0, outbound: 0, creditBytes: 0 }));
  });

  type Pair = Awaited<ReturnType<typeof startPair>>;
  type Pages = Awaited<ReturnType<LoadedEngine['engine']['reserve']>>;

  /** Starts a transfer and its prefill, which stops between the two groups of the last chunk. */
  function hold(pair: Pair, grouped: LoadedEngine, from: Pages, to: Pages, signal = never): Held {
    const inbound = pair.d.receive({ pages: to, tokens: PROMPT, order, deadlineMs: 60_000, signal: never });
    const outbound = pair.p.send({ ticket: inbound.ticket, pages: from, signal: never });
    const gate = Promise.withResolvers<void>();
    const handed: string[] = [];
    const prefilled = grouped.engine.prefill(engineGeneration(generation), from, signal, (end, layers) => {
      handed.push(`${end}/${layers.firstLayer}`);
      outbound.offer(end, layers);
      return end === PROMPT && layers.firstLayer === 0 ? gate.promise : undefined;
    });
    prefilled.catch(() => undefined);
    return { inbound, outbound, prefilled, handed, letGo: gate.resolve };
  }

  /** Waits until all that can have arrived before the last segments run is in place, and shows that they have not run. */
  async function atGate({ d }: Pair, grouped: LoadedEngine, { handed }: Held): Promise<void> {
    await eventually(() => handed.includes('150/0') || undefined, { what: 'the first group of the last chunk' });
    const perLayer = tokenBytes(grouped.info.descriptor) / LAYERS;
    // Whole blocks of the chunks before (96 tokens), all layers; the rest of the tokens, two layers of five.
    const arrived = 96 * perLayer * LAYERS + (PROMPT - 96) * perLayer * 2;
    await eventually(() => d.counters.rawBytesReceived >= arrived || undefined, { what: `${arrived} bytes in place` });
    expect(d.counters.rawBytesReceived).toBe(arrived);
    expect(handed).toEqual(['50/0', '50/2', '100/0', '100/2', '150/0']);
    // The chunk has not ended: its last segments, with layers 2 to 4 and the logits, are still to run.
    expect(grouped.engine.stats().prefillTokens).toBe(100);
  }
});

describe('through processes', () => {
  it('a worker with more groups than layers says so at its start', async () => {
    await expect(engineAlone(TINY_MOE, { CAUSEWAY_LAYER_GROUPS: '6' })).rejects.toMatchObject({
      reason: 'bad_config',
      message: 'CAUSEWAY_LAYER_GROUPS is 6; tiny-moe has 5 layers, which is the most',
    });
  });

  it('a worker that hands over groups of layers gives the bits of one that does not; the router passes its order on', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'causeway-groups-'));
    try {
      const recording = join(folder, 'frames');
      await using cluster = await startTestCluster({
        model: TINY_MOE,
        router: true,
        workerEnv: ENV,
        env: {
          'prefill-1': { CAUSEWAY_LAYER_GROUPS: '5', CAUSEWAY_DEBUG_CHECKS: 'on', CAUSEWAY_KV_RECORD: recording },
          'decode-1': { CAUSEWAY_DEBUG_CHECKS: 'on' },
        },
      });
      await using alone = await engineAlone(TINY_MOE, ENV);
      const computeOrder = { chunkTokens: CHUNK, layerGroups: 5 };
      for (const promptIds of [generation.promptIds, (await goldenPrompts(TINY_MOE)).at(-1)!]) {
        const request = { ...generation, promptIds };
        const expected = await answerAlone(alone, request);
        const result = await cluster.attempt(request, { computeOrder });
        expect(firstDifference(chosen(result), expected)).toBeUndefined();
        expect(result.kv?.rawBytes).toBe(BigInt(promptIds.length * tokenBytes(alone.info.descriptor)));
      }
      await expect(cluster.attempt(generation, { computeOrder: { chunkTokens: 50, layerGroups: 6 } })).rejects.toMatchObject({
        message: expect.stringContaining('compute_order.layer_groups is 6; the model has 5 layers'),
      });
      // By way of the router, which knows the order from the registry. Without it the prompt would be one object.
      const before = await objectsOf(recording);
      const answer = await complete(cluster.router.http, 'disaggregated');
      expect(answer).toMatchObject({ usage: { causeway: { outcome: 'used' } } });
      const after = await objectsOf(recording);
      expect(new Set(after.slice(before.length))).toEqual(new Set(Array.from({ length: 3 * 5 }, (_, object) => object)));
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
});

describe('a prefill worker that dies with some layers sent', () => {
  it('costs the client nothing: the answer is the undisturbed one', async () => {
    await using cluster = await startTestCluster({
      model: TINY_MOE,
      router: true,
      workerEnv: ENV,
      env: { 'prefill-1': { CAUSEWAY_LAYER_GROUPS: '5', CAUSEWAY_FAILPOINTS: 'after_frame_k:7=kill' } },
    });
    const disturbed = await complete(cluster.router.http, 'disaggregated');
    // Seven of fifteen objects had left: the first chunk, and two layers of the second.
    expect(await cluster.worker('prefill-1').process.exited).toMatchObject({ signal: 'SIGKILL' });
    expect(disturbed).toMatchObject({ usage: { causeway: { outcome: 'recomputed' } } });
    const undisturbed = await complete(cluster.router.http, 'local');
    expect(undisturbed).toMatchObject({ usage: { completion_tokens: generation.maxTokens, causeway: { outcome: 'local' } } });
    expect(disturbed.choices[0]?.text).toBe(undisturbed.choices[0]?.text);
    await idle(cluster.worker('decode-1'));
  });
});

/** An answer to the prompt by way of the router. */
async function complete(http: string, placement: string): Promise<{ usage: object; choices: { text: string }[] }> {
  const { promptIds: prompt, maxTokens: max_tokens } = generation;
  const response = await fetch(`http://${http}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      model: 'under-test',
      prompt,
      max_tokens,
      temperature: 0,
      ignore_eos: true,
      causeway: { placement },
    }),
  });
  return (await response.json()) as { usage: object; choices: { text: string }[] };
}

/** Object index of every frame that was recorded. */
async function objectsOf(recording: string): Promise<number[]> {
  const blob = await readFile(recording);
  const objects: number[] = [];
  for (let at = 0; at + 4 + FRAME_HEADER_BYTES <= blob.length; ) {
    const length = blob.readUInt32LE(at);
    objects.push(readFrameHeader(blob.subarray(at + 4, at + 4 + length)).object);
    at += 4 + length;
  }
  return objects;
}
