/** Calls that must come, by a real model that would rather talk: constrained decoding holds it to them. */
import { fileURLToPath } from 'node:url';
import { type Cluster, startCluster } from '@causeway/testkit';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const at = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

const tools: OpenAI.Chat.Completions.ChatCompletionTool[] = [
  {
    type: 'function',
    function: {
      name: 'get_weather',
      parameters: {
        type: 'object',
        properties: { city: { $ref: '#/$defs/short' }, days: { type: 'integer', minimum: 1, maximum: 9 } },
        required: ['city', 'days'],
        additionalProperties: false,
        $defs: { short: { type: 'string', maxLength: 10 } },
      },
    },
  },
  { type: 'function', function: { name: 'stop_talking' } },
];

let cluster: Cluster;
let openai: OpenAI;

beforeAll(async () => {
  cluster = await startCluster({
    model: at('../../models/tiny-moe'),
    router: true,
    env: {
      router: { CAUSEWAY_PLACEMENT: 'disaggregated', CAUSEWAY_CHAT_TEMPLATE: at('../chat-templates/qwen3.jinja') },
    },
  });
  openai = new OpenAI({ baseURL: `http://${cluster.router.http}/v1`, apiKey: 'none', maxRetries: 0 });
}, 240_000);
afterAll(() => cluster?.[Symbol.asyncDispose]());

function ask(tool_choice: OpenAI.Chat.Completions.ChatCompletionToolChoiceOption, seed: number) {
  const body: OpenAI.Chat.Completions.ChatCompletionCreateParamsNonStreaming & { chat_template_kwargs: object } = {
    model: 'tiny-moe',
    messages: [{ role: 'user', content: 'Tell me a story about a fox.' }],
    tools,
    tool_choice,
    temperature: 1,
    seed,
    max_tokens: 400,
    // The prompt says that no reasoning is wanted.
    chat_template_kwargs: { enable_thinking: false },
  };
  return openai.chat.completions.create(body);
}

describe('a model that must call', () => {
  it('calls one of the tools, with parameters by its schema', async () => {
    const names = new Set<string>();
    for (let seed = 0; seed < 8; seed++) {
      const { choices } = await ask('required', seed);
      expect(choices[0]?.finish_reason, JSON.stringify(choices)).toBe('tool_calls');
      const calls = choices[0]?.message.tool_calls ?? [];
      expect(calls).toHaveLength(1);
      if (calls[0]?.type !== 'function') throw new Error('no function');
      names.add(calls[0].function.name);
      const given = JSON.parse(calls[0].function.arguments) as { city?: string; days?: number };
      if (calls[0].function.name === 'stop_talking') expect(given).toEqual({});
      else {
        expect(Object.keys(given)).toEqual(['city', 'days']);
        expect(Array.from(given.city ?? '').length).toBeLessThanOrEqual(10);
        expect(given.days).toBeGreaterThanOrEqual(1);
        expect(given.days).toBeLessThanOrEqual(9);
      }
    }
    for (const name of names) expect(['get_weather', 'stop_talking']).toContain(name);
  }, 240_000);

  it('calls the named one', async () => {
    for (const name of ['get_weather', 'stop_talking']) {
      const { choices } = await ask({ type: 'function', function: { name } }, 3);
      expect(choices[0]?.message.tool_calls?.[0]).toMatchObject({ function: { name } });
      expect(choices[0]?.message.content).toBeNull();
    }
  }, 240_000);
});
