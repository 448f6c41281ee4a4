/** Sampling and log-probabilities on real processes, through OpenAI's own client; a decode worker dies in mid answer. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AsyncQueue } from '@causeway/lifecycle';
import { workerV1 } from '@causeway/proto';
import { createChannelPool } from '@causeway/rpc';
import { type Cluster, completeGeneration, eventually, startCluster } from '@causeway/testkit';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';

// Starting processes takes seconds, and on a busy machine many: nothing here waits for a time, but all of it may take one.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 240_000 });

const MODEL = fileURLToPath(new URL('../../models/tiny-moe', import.meta.url));

interface GoldenCase {
  messages: { role: 'user' | 'assistant' | 'system'; content: string }[];
  prompt_ids: number[];
  greedy_ids: number[];
  text: string;
  /** The likeliest tokens at each place, with their log-probabilities. */
  top5: [id: number, logprob: number][][];
}

const golden = JSON.parse(await readFile(join(MODEL, 'golden.json'), 'utf8')) as { cases: GoldenCase[] };
const first = golden.cases[0] as GoldenCase;
const greedy = { model: 'tiny-moe', messages: first.messages, temperature: 0, max_tokens: first.greedy_ids.length };

let cluster: Cluster;
let openai: OpenAI;

beforeAll(async () => {
  cluster = await startCluster({
    model: MODEL,
    router: true,
    decode: 2,
    env: { router: { CAUSEWAY_PLACEMENT: 'disaggregated', CAUSEWAY_LOG_LEVEL: 'debug' } },
  });
  openai = client();
});
afterAll(() => cluster?.[Symbol.asyncDispose]());

function client(): OpenAI {
  return new OpenAI({ baseURL: `http://${cluster.router.http}/v1`, apiKey: 'none', maxRetries: 0 });
}

/** Ids by vLLM's endpoint. */
async function idsOf(text: string): Promise<number[]> {
  const response = await fetch(`http://${cluster.router.http}/tokenize`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ prompt: text, add_special_tokens: false }),
  });
  return ((await response.json()) as { tokens: number[] }).tokens;
}

type Entry = OpenAI.ChatCompletionTokenLogprob;

const textOf = (entries: readonly { bytes: number[] | null }[]) =>
  Buffer.from(entries.flatMap(({ bytes }) => bytes ?? [])).toString();

describe('log-probabilities', () => {
  it('of a chat answer are those of the reference, the first from the prefill worker', async () => {
    const { choices, usage } = await openai.chat.completions.create({ ...greedy, logprobs: true, top_logprobs: 5 });
    const content = choices[0]?.logprobs?.content ?? [];
    expect(content).toHaveLength(usage?.completion_tokens ?? 0);
    // The last token is the end of sequence, which is no text.
    expect(textOf(content.slice(0, -1))).toBe(first.text);
    content.forEach((entry, i) => {
      expect(entry.logprob).toBeCloseTo(first.top5[i]?.[0]?.[1] ?? Number.NaN, 1);
      expect(entry.top_logprobs).toHaveLength(5);
      expect(entry.top_logprobs[0]).toEqual({ token: entry.token, bytes: entry.bytes, logprob: entry.logprob });
      const values = entry.top_logprobs.map(({ logprob }) => logprob);
      expect(values).toEqual([...values].sort((a, b) => b - a));
    });
  });

  it('of the first token come with the KV too, for a decode worker that nobody tells them', async () => {
    using channels = createChannelPool();
    const [prefill, decode] = [cluster.worker('prefill-1').address, cluster.worker('decode-1').address];
    const generation = completeGeneration({ promptIds: first.prompt_ids, maxTokens: 3, topLogprobs: 4 });
    const base = { requestId: 'sampling-manifest', attempt: 1, model: 'tiny-moe', generation };
    const commands = new AsyncQueue<workerV1.DecodeCommand>(2);
    commands.tryPush({ command: { $case: 'reserve', value: { ...base, local: false, computeOrder: undefined } } });
    const call = { requestId: base.requestId, deadlineMs: 60_000 };
    const read = async (ticket: workerV1.PrefillRequest['ticket']): Promise<workerV1.Token[]> => {
      const tokens: workerV1.Token[] = [];
      for await (const { event } of channels.client(workerV1.PrefillDefinition, prefill).prefill({ ...base, ticket }, call)) {
        if (event?.$case === 'firstToken') tokens.push(event.value);
      }
      return tokens;
    };
    let said: Promise<workerV1.Token[]> | undefined;
    const written: workerV1.Token[] = [];
    for await (const { event } of channels.client(workerV1.DecodeDefinition, decode).decode(commands, call)) {
      if (event?.$case === 'ticket') said = read(event.value);
      if (event?.$case === 'token') written.push(event.value);
    }
    commands.close();
    expect(written).toHaveLength(3);
    expect(written[0]?.topLogprobs).toHaveLength(4);
    expect(written.slice(0, 1)).toEqual(await said);
  });

  it('are the same streamed', async () => {
    const asked = { ...greedy, logprobs: true, top_logprobs: 2 };
    const whole = await openai.chat.completions.create(asked);
    const entries: Entry[] = [];
    for await (const chunk of await openai.chat.completions.create({ ...asked, stream: true })) {
      entries.push(...(chunk.choices[0]?.logprobs?.content ?? []));
    }
    expect(entries).toEqual(whole.choices[0]?.logprobs?.content);
  });

  it('of a completion have its form', async () => {
    const asked = { model: 'tiny-moe', prompt: 'The capital of France', temperature: 0, max_tokens: 6, logprobs: 3 };
    const { choices } = await openai.completions.create(asked);
    const [choice] = choices;
    const { tokens = [], token_logprobs: values = [], top_logprobs: tops = [], text_offset: offsets } = choice?.logprobs ?? {};
    expect([tokens.length, values.length, tops.length]).toEqual([6, 6, 6]);
    let text = '';
    const begins = tokens.map((token) => {
      const at = text.length;
      text += token;
      return at;
    });
    expect(choice?.text.startsWith(text.slice(0, choice.text.length))).toBe(true);
    expect(offsets).toEqual(begins);
    tokens.forEach((token, i) => expect(tops[i]?.[token]).toBe(values[i]));
  });
});

describe('min_tokens', () => {
  it('lets nothing end an answer before: neither its end token, nor stop tokens or strings', async () => {
    const { text, greedy_ids: ids } = first;
    const ask = async (more: object) => {
      const request = { ...greedy, max_tokens: 40, ...more };
      const { choices, usage } = await openai.chat.completions.create(request);
      return { text: choices[0]?.message.content ?? '', tokens: usage?.completion_tokens ?? 0 };
    };
    expect(await ask({})).toEqual({ text, tokens: ids.length });
    const longer = await ask({ min_tokens: ids.length + 6 });
    expect(longer.text.startsWith(text)).toBe(true);
    expect(longer.tokens).toBeGreaterThanOrEqual(ids.length + 6);
    // The answer's first word would end it at once.
    const stop = text.split(' ')[0] ?? '';
    expect((await ask({ stop: [stop] })).text).toBe('');
    expect(await ask({ stop: [stop], min_tokens: ids.length - 1 })).toEqual({ text, tokens: ids.length });
    // The first token comes from the prefill worker.
    const without = await ask({ stop_token_ids: [ids[0]], min_tokens: 5 });
    expect(without.tokens).toBeGreaterThanOrEqual(5);
    expect(without.text.startsWith(stop)).toBe(false);
  });
});

describe('logit_bias and penalties', () => {
  it('force and forbid tokens', async () => {
    const [paris] = await idsOf('Paris');
    const forced = await openai.chat.completions.create({ ...greedy, max_tokens: 3, logit_bias: { [`${paris}`]: 100 } });
    expect(await idsOf(forced.choices[0]?.message.content ?? '')).toEqual([paris, paris, paris]);
    const forbidden = await openai.chat.completions.create({ ...greedy, logit_bias: { [`${first.greedy_ids[0]}`]: -100 } });
    expect(forbidden.choices[0]?.message.content).not.toBe(first.text);
  });

  it('make an answer that repeats itself say something else', async () => {
    const asked = { ...greedy, max_tokens: 40, ignore_eos: true, logprobs: true };
    const repeats = async (more: object): Promise<number> => {
      const { choices } = await openai.chat.completions.create({ ...asked, ...more });
      const tokens = (choices[0]?.logprobs?.content ?? []).map(({ token }) => token);
      return tokens.length - new Set(tokens).size;
    };
    const plain = await repeats({});
    expect(await repeats({ presence_penalty: 2, frequency_penalty: 2 })).toBeLessThan(plain);
    expect(await repeats({ repetition_penalty: 5 })).toBeLessThan(plain);
  });
});

describe.each(['exact', 'fast'] as const)('a decode worker that dies in mid answer (recovery %s)', (recovery) => {
  const asked = {
    model: 'tiny-moe',
    messages: [{ role: 'user' as const, content: 'Count from 1 to 60.' }],
    temperature: 0.9,
    seed: 7,
    min_p: 0.01,
    presence_penalty: 0.4,
    frequency_penalty: 0.3,
    repetition_penalty: 1.1,
    logit_bias: { 20: 1 },
    logprobs: true,
    top_logprobs: 2,
    max_tokens: 150,
    ignore_eos: true,
    stream: true as const,
  };

  async function ask(onEntries?: (count: number) => Promise<void>): Promise<{ entries: Entry[]; attempts: number | undefined }> {
    const entries: Entry[] = [];
    let attempts: number | undefined;
    for await (const chunk of await client().chat.completions.create(asked)) {
      entries.push(...(chunk.choices[0]?.logprobs?.content ?? []));
      attempts ??= (chunk.usage as unknown as { causeway: { attempts: number } } | undefined)?.causeway.attempts;
      await onEntries?.(entries.length);
    }
    return { entries, attempts };
  }

  it('changes no token and no probability', async () => {
    await cluster.router.process.stop();
    await cluster.startRouter({ CAUSEWAY_RECOVERY: recovery });
    await seen(2);
    const undisturbed = await ask();
    expect(undisturbed).toMatchObject({ attempts: 1 });
    let killed: string | undefined;
    const disturbed = await ask(async (count) => {
      if (count < 9 || killed !== undefined) return;
      killed = decoderNow();
      await cluster.worker(killed).process.kill();
    });
    expect(disturbed.attempts).toBe(2);
    expect(disturbed.entries.map(({ token }) => token)).toEqual(undisturbed.entries.map(({ token }) => token));
    if (recovery === 'exact') expect(disturbed.entries).toEqual(undisturbed.entries);
    disturbed.entries.forEach((entry, i) => {
      expect(entry.logprob).toBeCloseTo(undisturbed.entries[i]?.logprob ?? Number.NaN, 2);
      expect(entry.top_logprobs).toHaveLength(2);
    });
    await cluster.startWorker('decode', killed ?? '');
    await seen(2);
  });

  /** The decode worker of the last attempt. */
  function decoderNow(): string {
    const log = cluster.router.process.logs().findLast((line) => line['msg'] === 'an attempt begins');
    return String(log?.['decodeWorker']);
  }

  async function seen(decode: number): Promise<void> {
    await eventually(
      async () => {
        const text = await (await fetch(`http://${cluster.router.observability}/metrics`)).text();
        return text.includes(`causeway_registry_workers{role="decode"} ${decode}\n`);
      },
      { what: `${decode} decode workers seen`, timeoutMs: 60_000 },
    );
  }
});
