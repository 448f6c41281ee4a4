/** Several answers to a prompt on real processes: one prefill and one transfer, each answer as alone, nothing left; a decode worker dies. */
import { fileURLToPath } from 'node:url';
import { inferenceV1 } from '@causeway/proto';
import { type ChannelPool, createChannelPool } from '@causeway/rpc';
import { type Cluster, eventually, scrape, startCluster } from '@causeway/testkit';
import OpenAI from 'openai';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { idle } from './evidence/harness.ts';

// Starting processes takes seconds, and on a busy machine many: nothing here waits for a time, but all of it may take one.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 240_000 });

const MODEL = fileURLToPath(new URL('../../models/tiny-moe', import.meta.url));
const PROMPT = `Read these notes. ${'Mia put the map in the garden. Tom sleeps in room 88. '.repeat(8)}Count from 1 to 60.`;
const SEED = 11;

let cluster: Cluster;
let channels: ChannelPool;

beforeAll(async () => {
  cluster = await startCluster({
    model: MODEL,
    router: true,
    decode: 2,
    // One codec, so that the same KV is the same number of bytes.
    workerEnv: { CAUSEWAY_KV_CODEC: 'none' },
    env: { router: { CAUSEWAY_PLACEMENT: 'disaggregated', CAUSEWAY_LOG_LEVEL: 'debug' } },
  });
  channels = createChannelPool();
});
afterEach(async () => {
  for (const worker of cluster.workers) await idle(worker);
});
afterAll(async () => {
  channels?.[Symbol.dispose]();
  await cluster?.[Symbol.asyncDispose]();
});

interface Asked {
  n: number;
  seed: number;
  maxTokens: number;
  prompt?: string;
  signal?: AbortSignal;
  /** Called after each token with what there is of each answer. */
  onToken?: (ids: readonly number[][]) => Promise<void>;
}

interface Answered {
  /** Of each answer. */
  ids: number[][];
  reasons: string[];
  usage: inferenceV1.Usage | undefined;
}

/** Asks over gRPC, which gives token ids. */
async function ask({ n, seed, maxTokens, prompt = PROMPT, signal, onToken }: Asked): Promise<Answered> {
  const client = channels.client(inferenceV1.InferenceDefinition, cluster.router.grpc);
  const answered: Answered = { ids: Array.from({ length: n }, () => []), reasons: [], usage: undefined };
  const request = inferenceV1.GenerateRequest.fromPartial({
    input: { $case: 'prompt', value: prompt },
    sampling: { temperature: 0.9, topP: 0.95, presencePenalty: 0.3, seed: BigInt(seed) },
    maxTokens,
    ignoreEos: true,
    n,
  });
  for await (const message of client.generate(request, signal === undefined ? {} : { signal })) {
    answered.ids[message.choice]?.push(...message.tokenIds);
    if (message.finishReason !== '') answered.reasons[message.choice] = message.finishReason;
    answered.usage ??= message.usage;
    await onToken?.(answered.ids);
  }
  return answered;
}

/** The same answers, each asked for alone with its own seed. */
async function alone(n: number, maxTokens: number): Promise<number[][]> {
  const all: number[][] = [];
  for (let i = 0; i < n; i++) all.push(...(await ask({ n: 1, seed: SEED + i, maxTokens })).ids);
  return all;
}

describe('four answers', () => {
  it('are those of four requests, and take the prefill and the KV bytes of one', async () => {
    const prefill = cluster.worker('prefill-1');
    const decoders = [cluster.worker('decode-1'), cluster.worker('decode-2')];
    const counters = async () => {
      const sender = await scrape(prefill);
      const receivers = await Promise.all(decoders.map(scrape));
      return {
        raw: sender('causeway_kv_transfer_raw_bytes_total'),
        read: sender('causeway_prefill_tokens_total'),
        readByDecoders: receivers.reduce((sum, metrics) => sum + metrics('causeway_prefill_tokens_total'), 0),
      };
    };
    const before = await counters();
    const one = await ask({ n: 1, seed: SEED, maxTokens: 40 });
    const between = await counters();
    const four = await ask({ n: 4, seed: SEED, maxTokens: 40 });
    const after = await counters();
    expect(after.raw - between.raw).toBe(between.raw - before.raw);
    expect(between.raw - before.raw).toBe(Number(one.usage?.kv?.bytesRaw));
    expect(after.read - between.read).toBe(one.usage?.promptTokens);
    expect(after.readByDecoders).toBe(before.readByDecoders);
    const kv = { outcome: 'used', bytesRaw: one.usage?.kv?.bytesRaw, bytesSent: one.usage?.kv?.bytesSent, attempts: 1 };
    expect(four.usage).toMatchObject({ promptTokens: one.usage?.promptTokens, completionTokens: 160, kv });
    expect(four.reasons).toEqual(['length', 'length', 'length', 'length']);
    expect(four.ids).toEqual(await alone(4, 40));
    expect(new Set(four.ids.map(String)).size).toBe(4);
  });

  it('share steps of the decode graph', async () => {
    const runs = async (): Promise<number> => {
      const workers = [cluster.worker('decode-1'), cluster.worker('decode-2')];
      const metrics = await Promise.all(workers.map(scrape));
      return metrics.reduce((sum, metric) => sum + metric('causeway_decode_runs_total'), 0);
    };
    const before = await runs();
    await ask({ n: 4, seed: SEED, maxTokens: 50 });
    expect((await runs()) - before).toBeLessThan(4 * 49 * 0.6);
  });

  it('that nobody wants any more end at the workers, and every page returns', async () => {
    const caller = new AbortController();
    const given = ask({
      n: 4,
      seed: SEED,
      maxTokens: 300,
      signal: caller.signal,
      onToken: async (ids) => {
        if (ids.every((answer) => answer.length > 5)) caller.abort();
      },
    });
    await expect(given).rejects.toThrow();
    for (const worker of cluster.workers) await idle(worker);
  });

  it('stopped by a string each, in text, through the official client', async () => {
    const openai = new OpenAI({ baseURL: `http://${cluster.router.http}/v1`, apiKey: 'none', maxRetries: 0 });
    const asked = { model: 'tiny-moe', prompt: PROMPT, n: 4, seed: SEED, temperature: 0.9, max_tokens: 60 };
    const whole = await openai.completions.create({ ...asked, ignore_eos: true } as typeof asked);
    const texts = whole.choices.map(({ text }) => text);
    // A word that comes early in one answer.
    const stop = texts[2]?.trim().split(' ')[3] as string;
    const { choices } = await openai.completions.create({ ...asked, ignore_eos: true, stop } as typeof asked);
    for (const { index, text, finish_reason: reason } of choices) {
      const at = texts[index]?.indexOf(stop) ?? -1;
      expect([text, reason]).toEqual(at < 0 ? [texts[index], 'length'] : [texts[index]?.slice(0, at), 'stop']);
    }
    expect(choices[2]?.finish_reason).toBe('stop');
  });
});

it('many at once, some of them given up, leave nothing behind', async () => {
  const answered = await Promise.all(
    Array.from({ length: 16 }, async (_, i) => {
      const caller = new AbortController();
      const n = 1 + ((i * 5) % 7);
      const givenUp = i % 3 === 2;
      const asked = ask({
        n,
        seed: SEED + i,
        maxTokens: 40,
        prompt: PROMPT.slice(i * 20),
        signal: caller.signal,
        onToken: async (ids) => {
          if (givenUp && ids.flat().length > 4 * n) caller.abort();
        },
      });
      return asked.then(
        ({ ids }) => ids.every((answer) => answer.length === 40) && !givenUp,
        () => givenUp,
      );
    }),
  );
  expect(answered).toEqual(Array.from({ length: 16 }, () => true));
  for (const worker of cluster.workers) await idle(worker);
});

it('prompts come back with their answers, and several are answered in one request', async () => {
  const openai = new OpenAI({ baseURL: `http://${cluster.router.http}/v1`, apiKey: 'none', maxRetries: 0 });
  // An answer that ended with its first token would need no KV.
  const goingOn = { ignore_eos: true };
  const asked = { model: 'tiny-moe', temperature: 0, max_tokens: 12, echo: true, ...goingOn };
  const prompt = [PROMPT, 'The capital of France', 'Once 😀 there'];
  const singles: OpenAI.Completion[] = [];
  for (const one of prompt) singles.push(await openai.completions.create({ ...asked, prompt: one }));
  const { choices, usage } = await openai.completions.create({ ...asked, prompt, n: 2 });
  const texts = singles.map((single) => single.choices[0]?.text);
  expect(choices.map(({ text }) => text)).toEqual(texts.flatMap((text) => [text, text]));
  texts.forEach((text, i) => expect(text?.startsWith(prompt[i] ?? '?')).toBe(true));
  const sum = (of: (single: OpenAI.Completion) => number) => singles.reduce((total, single) => total + of(single), 0);
  expect(usage?.prompt_tokens).toBe(sum((single) => single.usage?.prompt_tokens ?? 0));
  expect(usage?.completion_tokens).toBe(2 * sum((single) => single.usage?.completion_tokens ?? 0));
  const kv = (answer: OpenAI.Completion) => (answer.usage as unknown as { causeway: { bytes_raw: number } }).causeway;
  expect(kv({ usage } as OpenAI.Completion).bytes_raw).toBe(sum((single) => kv(single).bytes_raw));
});

it.each(['disaggregated', 'local'])(
  'an answer given back as a prompt is as likely as it was when it was written (%s)',
  async (placement) => {
    const client = channels.client(inferenceV1.InferenceDefinition, cluster.router.grpc);
    const written: inferenceV1.GenerateResponse[] = [];
    const request = inferenceV1.GenerateRequest.fromPartial({
      input: { $case: 'prompt', value: PROMPT },
      sampling: { temperature: 0.9, seed: 5n },
      maxTokens: 90,
      ignoreEos: true,
      logprobs: 1,
    });
    for await (const message of client.generate(request)) written.push(message);
    const answer = written.flatMap(({ logprobs }) => logprobs);
    const tokenized = await client.tokenize({ model: '', input: { $case: 'text', value: PROMPT } });
    const openai = new OpenAI({ baseURL: `http://${cluster.router.http}/v1`, apiKey: 'none', maxRetries: 0 });
    const asked = {
      model: 'tiny-moe',
      prompt: [...tokenized.ids, ...answer.map(({ id }) => id)],
      echo: true,
      logprobs: 3,
      max_tokens: 0,
      causeway: { placement },
    };
    const { choices, usage } = await openai.completions.create(asked);
    const { token_logprobs: values = [], tokens = [], top_logprobs: tops = [] } = choices[0]?.logprobs ?? {};
    expect(values).toHaveLength(asked.prompt.length);
    expect(values[0]).toBeNull();
    const own = values.slice(tokenized.ids.length);
    answer.forEach(({ logprob }, i) => expect(own[i]).toBeCloseTo(logprob, 2));
    tops.slice(1).forEach((top, i) => expect(top?.[tokens[i + 1] ?? '']).toBe(values[i + 1]));
    expect(choices[0]?.text.startsWith(PROMPT)).toBe(true);
    expect(usage).toMatchObject({ prompt_tokens: asked.prompt.length, completion_tokens: 0 });
  },
);

describe.each(['fast', 'exact'] as const)('a decode worker that dies while it writes three answers (recovery %s)', (recovery) => {
  const decoders = (): string[] =>
    cluster.router.process
      .logs()
      .filter((line) => line['msg'] === 'an attempt begins')
      .map((line) => String(line['decodeWorker']));

  it.each([
    ['just begun', 1],
    ['in the middle', 25],
  ])('%s: each goes on with the very tokens it would have had', async (_, at) => {
    await cluster.router.process.stop();
    await cluster.startRouter({ CAUSEWAY_PLACEMENT: 'disaggregated', CAUSEWAY_LOG_LEVEL: 'debug', CAUSEWAY_RECOVERY: recovery });
    await eventually(
      async () => {
        const text = await (await fetch(`http://${cluster.router.observability}/metrics`)).text();
        return text.includes('causeway_registry_workers{role="decode"} 2\n');
      },
      { what: '2 decode workers seen', timeoutMs: 60_000 },
    );
    const undisturbed = await ask({ n: 3, seed: SEED, maxTokens: 80 });
    expect(undisturbed.usage?.kv?.attempts).toBe(1);
    let killed: string | undefined;
    const disturbed = await ask({
      n: 3,
      seed: SEED,
      maxTokens: 80,
      onToken: async (ids) => {
        if (killed !== undefined || ids.some((answer) => answer.length < at)) return;
        killed = decoders().at(-1) as string;
        await cluster.worker(killed).process.kill();
      },
    });
    expect(disturbed.usage?.kv).toMatchObject({ attempts: 2, outcome: 'used' });
    expect(disturbed.usage).toMatchObject({ completionTokens: 240, promptTokens: undisturbed.usage?.promptTokens });
    // Tokens are replayed as decode steps in either mode: bit-equal.
    expect(disturbed.ids).toEqual(undisturbed.ids);
    await cluster.startWorker('decode', killed ?? '');
  });
});
