import { eventually } from '@causeway/testkit';
import { inferenceV1 } from '@causeway/proto';
import { createChannelPool } from '@causeway/rpc';
import { WORKER_INDEX_KEY, workerKey } from '@causeway/registry';
import { Redis } from 'ioredis';
import { afterEach, describe, expect, it } from 'vitest';
import type { FakeCall } from './fake-worker.ts';
import { type Harness, type HarnessOptions, startHarness, testTokenizer } from './harness.ts';

const TEXT = 'one two three four five six seven eight nine ten';
const messages = [{ role: 'user' as const, content: 'count to ten' }];
const chat = { model: 'tiny-moe', messages };
const answer = (await testTokenizer()).encode(TEXT);

let harness: Harness | undefined;

async function start(options: HarnessOptions): Promise<Harness> {
  harness = await startHarness(options);
  return harness;
}
afterEach(async () => {
  await harness?.[Symbol.asyncDispose]();
  harness = undefined;
});

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true }));
}

interface Usage {
  causeway: Record<string, unknown>;
}

/** Streams one answer; gives its text, its last chunk's report and the error that ended it. */
async function stream(
  run: Harness,
  onText?: (text: string) => void,
): Promise<{ text: string; kv: Record<string, unknown> | undefined }> {
  let text = '';
  let kv: Record<string, unknown> | undefined;
  for await (const chunk of await run.openai.chat.completions.create({ ...chat, stream: true })) {
    text += chunk.choices[0]?.delta.content ?? '';
    onText?.(text);
    const usage = chunk.usage as unknown as Usage | undefined;
    kv = usage?.causeway ?? kv;
  }
  return { text, kv };
}

describe('the loss of a decode worker', () => {
  it.each(['fast', 'exact'])('in mid answer loses and doubles no token (recovery %s)', async (recovery) => {
    const run = await start({ workers: ['prefill-0', 'decode-0', 'decode-1'], env: { CAUSEWAY_RECOVERY: recovery } });
    let killed: Promise<void> | undefined;
    let seen = '';
    const beforeToken = async (position: number, call: FakeCall): Promise<void> => {
      if (position !== 5 || killed !== undefined) return;
      await eventually(() => seen.length > 10);
      killed = run.worker(call.worker).kill();
      await aborted(call.signal);
    };
    run.play({ answer, beforeToken });
    const { text, kv } = await stream(run, (so) => (seen = so));
    expect(text).toBe(TEXT);
    expect(kv).toMatchObject({ attempts: 2, outcome: 'used' });
    const [first, second] = run.fabric.of('reserve');
    expect(second?.worker).not.toBe(first?.worker);
    const prompt = first?.generation?.promptIds ?? [];
    const emitted = answer.slice(0, second?.generation?.firstPosition);
    expect(emitted.length).toBeGreaterThanOrEqual(4);
    expect(second?.generation).toMatchObject(
      recovery === 'fast' ? { promptIds: [...prompt, ...emitted], replayIds: [] } : { promptIds: prompt, replayIds: emitted },
    );
    expect(second?.generation?.sampling).toEqual(first?.generation?.sampling);
    expect(second?.generation?.maxTokens).toBe((first?.generation?.maxTokens ?? 0) - emitted.length);
    expect(await run.metric('causeway_router_migrations_total')).toBe(1);
    await killed;
  });

  it('that goes silent and is no longer registered is given up after the stall limit, long before the hang limit', async () => {
    const run = await start({
      workers: ['prefill-0', 'decode-0', 'decode-1'],
      env: { CAUSEWAY_STALL_MS: '500', CAUSEWAY_HANG_MS: '600000' },
    });
    run.play({
      answer,
      beforeToken: async (position, call) => {
        if (position !== 4 || call.attempt !== 1) return;
        await run.worker(call.worker).leave();
        await aborted(call.signal);
      },
    });
    const { text, kv } = await stream(run);
    expect(text).toBe(TEXT);
    expect(kv).toMatchObject({ attempts: 2 });
    await run.quiet();
  });

  it('that goes silent but renews its lease is given up after the hang limit, not at the stall limit', async () => {
    const hangMs = 2000;
    const run = await start({
      workers: ['prefill-0', 'decode-0', 'decode-1'],
      worker: { leaseMs: 400 },
      env: { CAUSEWAY_STALL_MS: '200', CAUSEWAY_HANG_MS: String(hangMs) },
    });
    let silentAt = 0;
    run.play({
      answer,
      beforeToken: async (position, call) => {
        if (position !== 4 || call.attempt !== 1) return;
        silentAt = performance.now();
        await aborted(call.signal);
      },
    });
    const { text, kv } = await stream(run);
    expect(performance.now() - silentAt).toBeGreaterThan(hangMs - 100);
    expect(text).toBe(TEXT);
    expect(kv).toMatchObject({ attempts: 2 });
    await run.quiet();
  });

  it('ends in an error when the attempts are used up, after what was said', async () => {
    const run = await start({ env: { CAUSEWAY_MAX_ATTEMPTS: '2' } });
    run.play({
      answer,
      beforeToken: async (position) => {
        if (position === 4) throw new Error('broken');
      },
    });
    let seen = '';
    await expect(stream(run, (text) => (seen = text))).rejects.toThrow(/gave up after 2 attempts/);
    expect(TEXT.startsWith(seen)).toBe(true);
    expect(seen.length).toBeGreaterThan(4);
    await run.quiet();
  });

  it('is waited out when there is no other: the answer goes on with one that joins', async () => {
    const run = await start({ workers: ['prefill-0', 'decode-0'] });
    let joined: Promise<unknown> | undefined;
    const script = { answer, beforeToken };
    async function beforeToken(position: number, call: FakeCall): Promise<void> {
      if (position !== 3 || call.worker !== 'decode-0') return;
      joined = run
        .worker('decode-0')
        .kill()
        .then(() => run.addWorker({ id: 'decode-9', role: 'decode', script }));
      await aborted(call.signal);
    }
    run.play(script);
    const { text, kv } = await stream(run);
    expect(text).toBe(TEXT);
    expect(kv).toMatchObject({ decode_worker: 'decode-9' });
    await joined;
  });
});

describe('the loss of a prefill worker', () => {
  it('before its first token: another one starts over', async () => {
    const run = await start({ workers: ['prefill-0', 'prefill-1', 'decode-0'] });
    run.play({
      answer,
      onPrefill: async (call) => {
        if (call.attempt > 1) return;
        void run.worker(call.worker).kill();
        await aborted(call.signal);
      },
    });
    const { text, kv } = await stream(run);
    expect(text).toBe(TEXT);
    expect(kv).toMatchObject({ attempts: 2, outcome: 'used' });
    expect(new Set(run.fabric.of('prefill').map((event) => event.worker)).size).toBe(2);
  });

  it('with no other: the decode worker prefills what it reserved, and the answer says recomputed', async () => {
    const run = await start({ workers: ['prefill-0', 'decode-0'] });
    run.play({
      answer,
      onPrefill: async () => {
        throw new Error('broken');
      },
    });
    const { text, kv } = await stream(run);
    expect(text).toBe(TEXT);
    expect(kv).toMatchObject({ attempts: 1, outcome: 'recomputed', bytes_sent: 0 });
    expect(run.fabric.of('recompute')).toHaveLength(1);
  });

  it('after its first token: that token stays, the rest is recomputed', async () => {
    const run = await start({ workers: ['prefill-0', 'prefill-1', 'decode-0'] });
    run.play({
      answer,
      beforeCommit: async (call) => {
        await eventually(() => run.fabric.of('first_token').length > 0);
        void run.worker(call.worker).kill();
        await aborted(call.signal);
      },
    });
    const { text, kv } = await stream(run);
    expect(text).toBe(TEXT);
    expect(kv).toMatchObject({ attempts: 1, outcome: 'recomputed' });
    expect(run.fabric.of('token').map((event) => event.position)).toEqual(answer.map((_, position) => position).slice(1));
  });

  it('after the commit is nothing', async () => {
    const run = await start({ workers: ['prefill-0', 'decode-0'] });
    let lost: Promise<void> | undefined;
    run.play({
      answer,
      afterCommit: async (call) => {
        lost = run.worker(call.worker).kill();
        await aborted(call.signal);
      },
    });
    const { text, kv } = await stream(run);
    expect(text).toBe(TEXT);
    expect(kv).toMatchObject({ attempts: 1, outcome: 'used', bytes_sent: 640 });
    expect(run.fabric.of('recompute')).toEqual([]);
    await lost;
  });
});

describe('capacity', () => {
  it('nobody there: 503 with a reason and Retry-After', async () => {
    const run = await start({ workers: [] });
    const response = await run.post('/v1/chat/completions', chat);
    expect(response.status).toBe(503);
    expect(Number(response.headers.get('retry-after'))).toBeGreaterThan(0);
    expect(await response.json()).toMatchObject({ error: { reason: 'no_workers' } });
    expect((await fetch(`${run.url}/readyz`)).status).toBe(503);
  });

  it('without a prefill worker a request that insists on one is refused, any other is served', async () => {
    const run = await start({ workers: ['decode-0'] });
    run.play({ answer });
    const refused = await run.post('/v1/chat/completions', { ...chat, causeway: { placement: 'disaggregated' } });
    expect([refused.status, await refused.json()]).toMatchObject([503, { error: { reason: 'no_workers' } }]);
    expect((await stream(run)).kv).toMatchObject({ outcome: 'local' });
  });

  it('never gives KV to a worker with another fingerprint', async () => {
    const run = await start({ workers: ['prefill-0'] });
    await run.addWorker({ id: 'decode-0', role: 'decode', weights: 'other' });
    await eventually(async () => (await fetch(`${run.url}/readyz`)).ok);
    const refused = await run.post('/v1/chat/completions', { ...chat, causeway: { placement: 'disaggregated' } });
    expect(refused.status).toBe(503);
    expect(await refused.json()).toMatchObject({ error: { message: expect.stringContaining('fingerprint') as string } });
  });

  it('two places at a prefill worker, one in the queue, the next is refused with 429 and Retry-After', async () => {
    const run = await start({ workers: ['prefill-0', 'decode-0'], env: { CAUSEWAY_MAX_QUEUE: '1' } });
    const gate = Promise.withResolvers<void>();
    run.play({ answer, onPrefill: () => gate.promise });
    const body = { ...chat, max_tokens: 3 };
    const running = [run.post('/v1/chat/completions', body), run.post('/v1/chat/completions', body)];
    await eventually(() => run.fabric.of('prefill').length === 2);
    running.push(run.post('/v1/chat/completions', body));
    await eventually(async () => (await run.metric('causeway_router_queue_depth')) === 1);
    const refused = await run.post('/v1/chat/completions', body);
    expect(refused.status).toBe(429);
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
    expect(await refused.json()).toMatchObject({
      error: { code: 'rate_limit_exceeded', reason: 'queue_full', type: 'rate_limit_error' },
    });
    expect(run.fabric.of('prefill')).toHaveLength(2);
    gate.resolve();
    expect((await Promise.all(running)).map((response) => response.status)).toEqual([200, 200, 200]);
    expect(await run.metric('causeway_router_queue_depth')).toBe(0);
  });

  it('a queue that does not move ends in no_capacity', async () => {
    const run = await start({ env: { CAUSEWAY_QUEUE_WAIT_MS: '300' } });
    run.play({ answer, onPrefill: (call) => aborted(call.signal) });
    const held = new AbortController();
    const holders = [1, 2].map(() =>
      run.openai.chat.completions.create(chat, { signal: held.signal }).catch((error: unknown) => error),
    );
    await eventually(() => run.fabric.of('prefill').length === 2);
    const refused = await run.post('/v1/chat/completions', chat);
    expect([refused.status, await refused.json()]).toMatchObject([429, { error: { reason: 'no_capacity' } }]);
    held.abort();
    await Promise.all(holders);
    await run.quiet();
  });
});

describe('the client', () => {
  it('goes away in mid answer: both workers stop, nothing is sent any more, places come back', async () => {
    const run = await start({});
    run.play({ answer, beforeToken: (position, call) => (position === 4 ? aborted(call.signal) : Promise.resolve()) });
    const gone = new AbortController();
    const consume = async (): Promise<void> => {
      let pieces = 0;
      for await (const _ of await run.openai.chat.completions.create({ ...chat, stream: true }, { signal: gone.signal })) {
        if (++pieces === 3) gone.abort();
      }
    };
    await consume().catch(() => undefined);
    await run.quiet();
    const tokens = run.fabric.of('token').length;
    expect(tokens).toBeLessThanOrEqual(4);
    await eventually(async () => (await run.metric('vllm:num_requests_running')) === 0);
    run.play({ answer });
    expect((await stream(run)).text).toBe(TEXT);
  });

  it('goes away while it waits: nothing is left in the queue or at the workers', async () => {
    const run = await start({});
    run.play({ answer, onReserve: (call) => aborted(call.signal) });
    const gone = new AbortController();
    const waiting = run.openai.chat.completions.create(chat, { signal: gone.signal }).catch((error: unknown) => error);
    await eventually(() => run.fabric.of('reserve').length === 1);
    gone.abort();
    await waiting;
    await run.quiet();
    expect(run.fabric.of('decode ended')).toHaveLength(1);
    expect(run.fabric.of('prefill')).toEqual([]);
  });
});

describe('Redis', () => {
  it('away or full of rubbish: the router serves from its last snapshot', async () => {
    const run = await start({});
    run.play({ answer });
    await run.redis.stop();
    expect((await stream(run)).text).toBe(TEXT);
    await run.redis.start();
    const redis = new Redis(run.redis.url);
    await redis.sadd(WORKER_INDEX_KEY, 'rubbish', 'bad id!');
    await redis.set(workerKey('rubbish'), '{"version":1,');
    await eventually(async () => (await run.metric('causeway_registry_ignored_records_total')) >= 2);
    redis.disconnect();
    expect((await stream(run)).text).toBe(TEXT);
  });
});

describe('SIGTERM', () => {
  it('drains: not ready, new requests refused, the running one ends, exit 0', async () => {
    const run = await start({});
    const gate = Promise.withResolvers<void>();
    run.play({ answer, beforeToken: (position) => (position === 5 ? gate.promise : Promise.resolve()) });
    const running = stream(run);
    await eventually(() => run.fabric.of('token').some((event) => event.position === 4));
    run.router.signal('TERM');
    await eventually(async () => (await fetch(`${run.url}/readyz`)).status === 503);
    const refused = await run.post('/v1/chat/completions', chat);
    expect([refused.status, await refused.json()]).toMatchObject([503, { error: { reason: 'draining' } }]);
    using channels = createChannelPool();
    const client = channels.client(inferenceV1.InferenceDefinition, run.grpc);
    const draining = { code: 'unavailable', reason: 'draining' };
    await expect(client.tokenize({ input: { $case: 'text', value: 'x' } })).rejects.toMatchObject(draining);
    await expect(client.generate({})[Symbol.asyncIterator]().next()).rejects.toMatchObject(draining);
    gate.resolve();
    expect((await running).text).toBe(TEXT);
    expect(await run.router.exited).toMatchObject({ code: 0 });
  });
});
