/** Structured output on real processes, through OpenAI's own client; a decode worker dies in mid document. */
import { fileURLToPath } from 'node:url';
import { inferenceV1 } from '@causeway/proto';
import { createChannelPool } from '@causeway/rpc';
import { type Cluster, eventually, startCluster } from '@causeway/testkit';
import { Ajv2020 } from 'ajv/dist/2020.js';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';

// Starting processes takes seconds, and on a busy machine many: nothing here waits for a time, but all of it may take one.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 240_000 });

const MODEL = fileURLToPath(new URL('../../models/tiny-moe', import.meta.url));

const SCHEMA = {
  type: 'object',
  properties: {
    name: { type: 'string', maxLength: 20 },
    age: { type: 'integer', minimum: 0, maximum: 150 },
    lines: {
      type: 'array',
      items: {
        type: 'object',
        properties: { text: { type: 'string', maxLength: 30 }, ok: { type: 'boolean' } },
        required: ['text', 'ok'],
        additionalProperties: false,
      },
      minItems: 4,
      maxItems: 6,
    },
  },
  required: ['name', 'age', 'lines'],
  additionalProperties: false,
} as const;
const valid = new Ajv2020().compile(SCHEMA);

const asked = {
  model: 'tiny-moe',
  messages: [{ role: 'user' as const, content: 'Write JSON: Tom is 7 years old and lives in Rome.' }],
  max_tokens: 600,
  response_format: { type: 'json_schema' as const, json_schema: { name: 'person', strict: true, schema: SCHEMA } },
};

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

/** Fields of vLLM's are unknown to the client's types. */
async function complete(more: object): Promise<{ text: string; reason: string | undefined }> {
  const { choices } = await openai.chat.completions.create({ ...asked, response_format: { type: 'text' }, ...more });
  return { text: choices[0]?.message.content ?? '', reason: choices[0]?.finish_reason };
}

describe('response_format', () => {
  it.each([0, 1])('json_schema gives a document of the schema at temperature %i', async (temperature) => {
    const answers = await Promise.all(
      Array.from({ length: temperature === 0 ? 1 : 12 }, (_, seed) =>
        openai.chat.completions.create({ ...asked, temperature, seed }),
      ),
    );
    for (const { choices, usage } of answers) {
      expect(choices[0]?.finish_reason).toBe('stop');
      expect(valid(JSON.parse(choices[0]?.message.content ?? ''))).toBe(true);
      expect((usage as unknown as { causeway: { outcome: string } }).causeway.outcome).toBe('used');
    }
  });

  it('gives the same document streamed, with the log-probabilities of its tokens', async () => {
    const wanted = { ...asked, seed: 4, logprobs: true, top_logprobs: 3, temperature: 0.8 };
    const whole = await openai.chat.completions.create(wanted);
    let text = '';
    for await (const chunk of await openai.chat.completions.create({ ...wanted, stream: true }))
      text += chunk.choices[0]?.delta.content ?? '';
    expect(text).toBe(whole.choices[0]?.message.content);
    expect(valid(JSON.parse(text))).toBe(true);
    expect(whole.choices[0]?.logprobs?.content).toHaveLength(whole.usage?.completion_tokens ?? 0);
  });

  it('json_object gives an object, and one that is cut says so', async () => {
    const { text, reason } = await complete({ response_format: { type: 'json_object' }, temperature: 0 });
    if (reason === 'stop') expect(JSON.parse(text)).toBeTypeOf('object');
    expect(text).toMatch(/^\{/);
    expect(await complete({ response_format: asked.response_format, max_tokens: 5 })).toMatchObject({ reason: 'length' });
  });

  it('has the order of the penalties: biased towards what is not allowed, the document stays one', async () => {
    const bias = Object.fromEntries(Array.from({ length: 50 }, (_, i) => [String(100 + i), 100]));
    const { text, reason } = await complete({
      response_format: asked.response_format,
      logit_bias: bias,
      presence_penalty: 1,
      top_k: 5,
      min_p: 0.1,
    });
    expect(reason).toBe('stop');
    expect(valid(JSON.parse(text))).toBe(true);
  });

  it('is served local and in completions too', async () => {
    const { text } = await complete({ response_format: asked.response_format, causeway: { placement: 'local' } });
    expect(valid(JSON.parse(text))).toBe(true);
    const completion = await openai.completions.create({
      model: 'tiny-moe',
      prompt: 'JSON:',
      max_tokens: 600,
      response_format: asked.response_format,
    } as OpenAI.CompletionCreateParamsNonStreaming);
    expect(valid(JSON.parse(completion.choices[0]?.text ?? ''))).toBe(true);
  });

  it('holds every one of several answers', async () => {
    const wanted = { ...asked, seed: 20, temperature: 1 };
    const { choices } = await openai.chat.completions.create({ ...wanted, n: 4 });
    const texts = choices.map(({ message }) => message.content ?? '');
    for (const text of texts) expect(valid(JSON.parse(text)), text).toBe(true);
    expect(new Set(texts).size).toBe(4);
    const alone = await openai.chat.completions.create({ ...wanted, seed: 22 });
    expect(alone.choices[0]?.message.content).toBe(texts[2]);
  });

  it("has vLLM's names", async () => {
    expect(valid(JSON.parse((await complete({ guided_json: SCHEMA })).text))).toBe(true);
    expect((await complete({ guided_regex: '[a-f]{3}-\\d' })).text).toMatch(/^[a-f]{3}-\d$/);
    expect(['red', 'green']).toContain((await complete({ guided_choice: ['red', 'green'] })).text);
    expect((await complete({ structured_outputs: { regex: 'x{4}' } })).text).toBe('xxxx');
  });
});

describe('over gRPC', () => {
  it('a response format is held as over HTTP, and refused as there', async () => {
    using channels = createChannelPool();
    const grpc = channels.client(inferenceV1.InferenceDefinition, cluster.router.grpc);
    const generate = async (jsonSchema: string): Promise<string> => {
      const request = inferenceV1.GenerateRequest.fromPartial({
        input: { $case: 'prompt', value: 'JSON:' },
        responseFormat: { format: { $case: 'jsonSchema', value: jsonSchema } },
      });
      let text = '';
      for await (const piece of grpc.generate(request, { requestId: 'structured', deadlineMs: 120_000 })) text += piece.text;
      return text;
    };
    expect(valid(JSON.parse(await generate(JSON.stringify(SCHEMA))))).toBe(true);
    await expect(generate('{"type": "objekt"}')).rejects.toThrow(/response_format\.json_schema.*"type" at # must be one of/);
  });
});

describe.each(['exact', 'fast'] as const)('a decode worker that dies in mid document (recovery %s)', (recovery) => {
  it('changes nothing of it', async () => {
    await cluster.router.process.stop();
    await cluster.startRouter({ CAUSEWAY_RECOVERY: recovery });
    await seen(2);
    const undisturbed = await ask();
    expect(undisturbed.attempts).toBe(1);
    expect(valid(JSON.parse(undisturbed.text))).toBe(true);
    let killed: string | undefined;
    const disturbed = await ask(async (length) => {
      if (length < 25 || killed !== undefined) return;
      killed = decoderNow();
      await cluster.worker(killed).process.kill();
    });
    expect(disturbed.attempts).toBe(2);
    expect(disturbed.text).toBe(undisturbed.text);
    await cluster.startWorker('decode', killed ?? '');
    await seen(2);
  });

  it('changes nothing of several documents', async () => {
    const ask3 = async (onText?: (length: number) => Promise<void>): Promise<string[]> => {
      const texts = ['', '', ''];
      for await (const chunk of await client().chat.completions.create({
        ...asked,
        temperature: 0.7,
        seed: 30,
        n: 3,
        stream: true,
      })) {
        for (const { index, delta } of chunk.choices) texts[index] += delta.content ?? '';
        await onText?.(texts.join('').length);
      }
      return texts;
    };
    const undisturbed = await ask3();
    for (const text of undisturbed) expect(valid(JSON.parse(text)), text).toBe(true);
    let killed: string | undefined;
    const disturbed = await ask3(async (length) => {
      if (length < 60 || killed !== undefined) return;
      killed = decoderNow();
      await cluster.worker(killed).process.kill();
    });
    expect(killed).toBeDefined();
    expect(disturbed).toEqual(undisturbed);
    await cluster.startWorker('decode', killed ?? '');
    await seen(2);
  });

  /** The decode worker of the last attempt. */
  function decoderNow(): string {
    const log = cluster.router.process.logs().findLast((line) => line['msg'] === 'an attempt begins');
    return String(log?.['decodeWorker']);
  }

  async function ask(onText?: (length: number) => Promise<void>): Promise<{ text: string; attempts: number | undefined }> {
    let text = '';
    let attempts: number | undefined;
    const stream = await client().chat.completions.create({ ...asked, temperature: 0.7, seed: 11, stream: true });
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? '';
      attempts ??= (chunk.usage as unknown as { causeway: { attempts: number } } | undefined)?.causeway.attempts;
      await onText?.(text.length);
    }
    return { text, attempts };
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
