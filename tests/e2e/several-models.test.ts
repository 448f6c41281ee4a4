/** Several models in one cluster, each read and written by two processes of its own; and models that come from a hub. */
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { inferenceV1 } from '@causeway/proto';
import { createChannelPool } from '@causeway/rpc';
import { eventually } from '@causeway/testkit';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { startFakeHub } from '../../services/cli/src/models/testing/fake-hub.ts';
import { CommandFolder } from './command-folder.ts';

// On a busy machine starting seven processes takes long.
vi.setConfig({ testTimeout: 360_000 });

const ROOT = resolve(import.meta.dirname, '../..');
const TINY_MOE = join(ROOT, 'models/tiny-moe');
const GOLDEN = resolve(ROOT, '../shared/goldens/llama');

let at: CommandFolder;
afterEach(() => at[Symbol.asyncDispose]());

/** The golden checkpoint has no tokenizer: this one has the first 257 tokens of the built-in model's, which are bytes, and no merges. */
function goldenWithTokenizer(folder: string): string {
  mkdirSync(folder);
  for (const name of ['config.json', 'model.safetensors']) symlinkSync(join(GOLDEN, name), join(folder, name));
  const tokenizer = JSON.parse(readFileSync(join(TINY_MOE, 'tokenizer.json'), 'utf8')) as {
    model: { vocab: Record<string, number>; merges: unknown[] };
  };
  const vocab = Object.fromEntries(Object.entries(tokenizer.model.vocab).filter(([, id]) => id < 257));
  writeFileSync(
    join(folder, 'tokenizer.json'),
    JSON.stringify({ ...tokenizer, model: { ...tokenizer.model, vocab, merges: [] } }),
  );
  symlinkSync(join(TINY_MOE, 'chat_template.jinja'), join(folder, 'chat_template.jinja'));
  return folder;
}

interface GoldenCase {
  prompt: number[];
  greedy: number[];
  greedy_margin: number[];
}

/** Tokens as far as the reference is sure of them. */
function firm({ greedy, greedy_margin: margins }: GoldenCase): number[] {
  const unsure = margins.findIndex((margin) => margin < 1e-3);
  return unsure === -1 ? greedy : greedy.slice(0, unsure);
}

interface Answer {
  model: string;
  choices: { message: { content: string } }[];
  usage: { causeway: { outcome: string; prefill_worker: string; decode_worker: string } };
}

async function ask(http: string, model: string): Promise<Answer> {
  const response = await fetch(`${http}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      model,
      messages: [{ role: 'user', content: 'What is the capital of France?' }],
      temperature: 0,
      max_tokens: 12,
      causeway: { placement: 'disaggregated' },
    }),
  });
  expect(response.status).toBe(200);
  return (await response.json()) as Answer;
}

describe('two models in one cluster', () => {
  test.skipIf(!existsSync(GOLDEN))('answer through two processes each, as their references do', async () => {
    at = new CommandFolder();
    const golden = goldenWithTokenizer(join(at.path, 'golden'));
    const pool = (name: string, role: string, model: string) => ({
      name,
      role,
      model,
      kvBudget: '64MiB',
      maxContext: 1024,
      precision: 'exact',
    });
    const topology = join(at.path, 'two.json');
    writeFileSync(
      topology,
      JSON.stringify({
        version: 1,
        pools: [
          pool('moe-p', 'prefill', 'tiny-moe'),
          pool('moe-d', 'decode', 'tiny-moe'),
          pool('golden-p', 'prefill', golden),
          pool('golden-d', 'decode', golden),
        ],
      }),
    );
    const up = at.start(['up', '--no-prompt', '--topology', topology]);
    await up.waitForLine(/^ready {2}HTTP/, 240_000);
    const status = await at.status();
    expect(status.models).toMatchObject([
      { name: 'tiny-moe', prefill: 1, decode: 1, ready: true },
      { name: 'golden', prefill: 1, decode: 1, ready: true },
    ]);
    expect(Object.fromEntries(status.workers.map(({ id, model }) => [id, model]))).toEqual({
      'moe-p': 'tiny-moe',
      'moe-d': 'tiny-moe',
      'golden-p': 'golden',
      'golden-d': 'golden',
    });

    const moe = await ask(status.http, 'tiny-moe');
    expect(moe).toMatchObject({
      choices: [{ message: { content: 'The capital of France is Paris.' } }],
      usage: { causeway: { outcome: 'used', prefill_worker: 'moe-p', decode_worker: 'moe-d' } },
    });

    using channels = createChannelPool();
    const client = channels.client(inferenceV1.InferenceDefinition, status.grpc);
    const { cases } = JSON.parse(readFileSync(join(GOLDEN, 'golden.json'), 'utf8')) as { cases: GoldenCase[] };
    let compared = 0;
    for (const item of cases) {
      const ids: number[] = [];
      let kv: inferenceV1.KvReport | undefined;
      const request = inferenceV1.GenerateRequest.fromPartial({
        model: 'golden',
        input: { $case: 'tokenIds', value: { ids: item.prompt } },
        sampling: { temperature: 0 },
        maxTokens: item.greedy.length,
        ignoreEos: true,
        placement: 'disaggregated',
      });
      for await (const message of client.generate(request)) {
        ids.push(...message.tokenIds);
        kv = message.usage?.kv ?? kv;
      }
      expect(kv).toMatchObject({ outcome: 'used', prefillWorker: 'golden-p', decodeWorker: 'golden-d' });
      const expected = firm(item);
      expect(ids.slice(0, expected.length)).toEqual(expected);
      compared += expected.length;
    }
    expect(compared).toBeGreaterThan(50);

    const victim = status.services.find(({ name }) => name === 'golden-d')?.pid ?? 0;
    process.kill(victim, 'SIGKILL');
    expect((await ask(status.http, 'tiny-moe')).choices[0]?.message.content).toBe('The capital of France is Paris.');
    expect((await fetch(`${status.http}/readyz`)).status).toBe(200);
    await eventually(async () => (await at.status()).models.every(({ ready }) => ready), {
      timeoutMs: 60_000,
      intervalMs: 300,
      what: 'both models ready again',
    });
    up.signal('INT');
    expect(await up.exited).toEqual({ code: 0, signal: null });
  });

  test('up pulls what is not here, serves it beside the built-in model, and rm deletes it when nobody serves it', async () => {
    const files = readdirSync(TINY_MOE).map((name) => [name, readFileSync(join(TINY_MOE, name))] as const);
    await using hub = await startFakeHub(Object.fromEntries(files));
    at = new CommandFolder({ HF_ENDPOINT: hub.url });
    hub.behave = { cutAfter: [1000, 10_000, 5_000_000] };
    const up = at.start(['up', '--model', 'tiny-moe', '--model', 'hf:acme/tiny']);
    await up.waitForLine(/^pulling hf:acme\/tiny \(6 files, .*MiB\) from http/, 60_000);
    await up.waitForLine(/^ready {2}HTTP/, 240_000);
    expect(up.lines.filter((line) => /^(tiny-moe|acme\/tiny) +The capital of France is Paris\.$/.test(line))).toHaveLength(2);
    const { http, models } = await at.status();
    expect(models.map(({ name }) => name)).toEqual(['tiny-moe', 'acme/tiny']);
    expect((await ask(http, 'acme/tiny')).usage.causeway).toMatchObject({
      outcome: 'used',
      prefill_worker: 'tiny-prefill',
      decode_worker: 'tiny-decode',
    });

    const refused = await at.run(['models', 'rm', 'hf:acme/tiny']);
    expect(refused).toMatchObject({ code: 1, output: expect.stringContaining('./causeway down first') as string });
    const chat = await at.pipe(['What color is snow?'], ['chat', '--model', 'acme/tiny', '--temperature', '0']);
    expect(chat.output).toMatch(/white/i);
    up.signal('INT');
    await up.exited;

    const asked = hub.requests.length;
    expect(await at.run(['models', 'pull', 'hf:acme/tiny'])).toMatchObject({
      code: 0,
      output: expect.stringMatching(/is here already/) as string,
    });
    expect(hub.requests.length).toBe(asked);
    const listed = JSON.parse((await at.run(['models', 'list', '--json'])).output) as { models: { name: string }[] };
    expect(listed.models.filter(({ name }) => name !== 'smollm2-135m-instruct')).toMatchObject([
      { name: 'tiny-moe', origin: 'built-in' },
      {
        name: 'hf:acme/tiny',
        origin: 'pulled',
        format: 'safetensors',
        architecture: 'deepseek_v3',
        quantisation: 'BF16',
        bytes: 8_250_336,
      },
    ]);
    expect((await at.run(['models', 'rm', 'hf:acme/tiny'])).code).toBe(0);
    expect((await at.run(['models', 'rm', 'hf:acme/tiny'])).output).toMatch(
      /was not pulled, so there is nothing to remove; pulled are: none/,
    );
    expect((await at.run(['models', 'rm', 'tiny-moe'])).output).toMatch(/it is built in/);
    expect(existsSync(join(TINY_MOE, 'model.safetensors'))).toBe(true);
  });

  test('of one name are refused before anything starts', async () => {
    at = new CommandFolder();
    mkdirSync(join(at.path, 'sub'));
    symlinkSync(TINY_MOE, join(at.path, 'sub', 'tiny-moe'));
    const { code, output } = await at.run(['up', '--model', 'tiny-moe', '--model', './sub/tiny-moe']);
    expect(code).toBe(2);
    expect(output).toMatch(/two models are called tiny-moe: .*models\/tiny-moe and .*sub\/tiny-moe/);
  });
});
