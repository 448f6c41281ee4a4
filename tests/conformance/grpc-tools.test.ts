/** Tools, calls and reasoning over gRPC. */
import { inferenceV1 } from '@causeway/proto';
import { type ChannelPool, createChannelPool, type RpcClient } from '@causeway/rpc';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type Harness, startHarness } from './harness.ts';
import { type MarkedModel, markedModel } from './marked-model.ts';

const ARGUMENTS = '{"city": "Zürich 😀"}';
const SECTION = `<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>${ARGUMENTS}<|tool_call_end|><|tool_calls_section_end|>`;
const tools = [{ name: 'get_weather', description: 'Tells the weather', parameters: '{"type": "object"}' }];
const user = { role: 'user', content: 'Weather?' };

let harness: Harness;
let model: MarkedModel;
let channels: ChannelPool;
let client: RpcClient<typeof inferenceV1.InferenceDefinition>;

beforeAll(async () => {
  model = await markedModel('kimi-k2-thinking');
  const env = { CAUSEWAY_MODEL_PATH: model.path, CAUSEWAY_MODEL_NAME: 'tiny-moe' };
  harness = await startHarness({ worker: { contextLength: 2048 }, env });
  channels = createChannelPool();
  client = channels.client(inferenceV1.InferenceDefinition, harness.grpc);
});
afterEach(() => harness.quiet());
afterAll(async () => {
  channels?.[Symbol.dispose]();
  await harness?.[Symbol.asyncDispose]();
  model?.[Symbol.dispose]();
});

type Partial = Parameters<typeof inferenceV1.GenerateRequest.fromPartial>[0];
type Conversation = Parameters<typeof inferenceV1.Messages.fromPartial>[0];

async function generate(conversation: Conversation, more: Partial = {}): Promise<inferenceV1.GenerateResponse[]> {
  const value = inferenceV1.Messages.fromPartial(conversation);
  const all = [];
  for await (const message of client.generate(
    inferenceV1.GenerateRequest.fromPartial({ input: { $case: 'messages', value }, ...more }),
  )) {
    all.push(message);
  }
  return all;
}

function write(text: string): void {
  harness.play({ answer: [...model.tokenizer.encodeRendered(text), 2], endsWith: 'stop' });
}

const prompt = (): string => model.tokenizer.decodeAll(harness.fabric.of('reserve')[0]?.generation?.promptIds ?? []);

describe('causeway.inference.v1.Inference', () => {
  it('streams reasoning, calls and text apart', async () => {
    write(`<think>I look.</think>Wait. ${SECTION}`);
    const all = await generate({ messages: [user], tools });
    expect(prompt()).toContain('Tells the weather');
    expect(all.map((message) => message.reasoningContent).join('')).toBe('I look.');
    expect(all.map((message) => message.text).join('')).toBe('Wait. ');
    const calls = all.flatMap((message) => message.toolCalls);
    expect(calls[0]).toEqual({ index: 0, id: 'functions.get_weather:0', name: 'get_weather', arguments: '' });
    expect(calls.slice(1).every(({ id, name }) => id === '' && name === '')).toBe(true);
    expect(calls.map((call) => call.arguments).join('')).toBe(ARGUMENTS);
    const last = all.at(-1);
    expect(last?.finishReason).toBe('tool_calls');
    expect(last?.usage?.reasoningTokens).toBeGreaterThan(0);
    expect(last?.usage?.reasoningTokens).toBeLessThan(last?.usage?.completionTokens ?? 0);
  });

  it('takes a conversation with calls on', async () => {
    write('<think></think>Warm.');
    const call = { id: 'functions.get_weather:0', name: 'get_weather', arguments: ARGUMENTS };
    const messages = [
      user,
      { role: 'assistant', toolCalls: [call], reasoningContent: 'I look.' },
      { role: 'tool', toolCallId: call.id, name: 'get_weather', content: '21 degrees' },
    ];
    const all = await generate({ messages, chatTemplateKwargs: '{"x": 1}' });
    for (const part of ['I look.', ARGUMENTS, '21 degrees', `Return of ${call.id}`]) expect(prompt()).toContain(part);
    expect(all.map((message) => message.text).join('')).toBe('Warm.');
    expect(all.at(-1)?.finishReason).toBe('stop');
  });

  it('calls nothing where nothing may be called', async () => {
    write(`<think></think>${SECTION}`);
    const all = await generate({ messages: [user], tools }, { toolChoice: 'none' });
    expect(prompt()).not.toContain('Tells the weather');
    expect(all.flatMap((message) => message.toolCalls)).toEqual([]);
  });

  it('counts tools in Tokenize', async () => {
    const value = inferenceV1.Messages.fromPartial({ messages: [user], tools });
    const { ids } = await client.tokenize({ model: '', input: { $case: 'messages', value } });
    expect(model.tokenizer.decodeAll(ids)).toContain('Tells the weather');
  });

  it.each<[Conversation, Partial, string]>([
    [
      { messages: [user], tools },
      { toolChoice: 'required', responseFormat: { format: { $case: 'jsonObject', value: true } } },
      'tool_choice',
    ],
    [{ messages: [user], tools: [{ name: 'a b' }] }, {}, 'tools[0].function.name'],
    [{ messages: [user], tools: [{ name: 'f', parameters: '{' }] }, {}, 'tools[0].parameters'],
    [{ messages: [user], tools: [{ name: 'f', parameters: '[]' }] }, {}, 'tools[0].function.parameters'],
    [{ messages: [user], chatTemplateKwargs: '{"a"' }, {}, 'chat_template_kwargs'],
    [{ messages: [user], chatTemplateKwargs: '7' }, {}, 'chat_template_kwargs'],
    [{ messages: [{ role: 'tool', content: 'x' }] }, {}, 'messages[0].tool_call_id'],
    [{ messages: [{ role: 'assistant', toolCalls: [{ name: '' }] }] }, {}, 'messages[0].tool_calls[0].name'],
    [{ messages: [{ role: 'wizard' }] }, {}, 'system, developer, user, assistant or tool'],
  ])('refuses %j with %j', async (conversation, more, said) => {
    await expect(generate(conversation, more)).rejects.toMatchObject({
      code: 'invalid_argument',
      message: expect.stringContaining(said) as string,
    });
  });
});
