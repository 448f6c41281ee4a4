/** Several answers to one prompt, each with its own reasoning, calls and end. */
import type OpenAI from 'openai';
import { expect, it } from 'vitest';
import { messages } from './choice-streams.ts';
import { startHarness } from './harness.ts';
import { markedModel } from './marked-model.ts';

const ARGUMENTS = '{"city": "Zürich 😀", "days": [1, 2]}';
const TEXTS = [
  `<think>\nHm.\n</think>\n\n<tool_call>\n{"name": "get_weather", "arguments": ${ARGUMENTS}}\n</tool_call>`,
  'I do not know.',
  '<tool_call>\n{"name": "add"}\n</tool_call>',
] as const;

it('several answers have calls, content and ends of their own, whole and streamed', async () => {
  using model = await markedModel('qwen3');
  await using harness = await startHarness({
    worker: { contextLength: 4096 },
    env: { CAUSEWAY_MODEL_PATH: model.path, CAUSEWAY_MODEL_NAME: 'tiny-moe' },
  });
  const answers = TEXTS.map((text) => [...model.tokenizer.encodeRendered(text), 2]);
  harness.play({ answer: answers[0] ?? [], answers, endsWith: 'stop' });
  const tools: OpenAI.Chat.Completions.ChatCompletionTool[] = [
    { type: 'function', function: { name: 'get_weather', parameters: { type: 'object' } } },
    { type: 'function', function: { name: 'add' } },
  ];
  const asked = { model: 'tiny-moe', messages, tools, n: 3 };
  const { choices, usage } = await harness.openai.chat.completions.create(asked);
  const called = (name: string, text: string) => [expect.objectContaining({ function: { name, arguments: text } })];
  expect(choices.map(({ finish_reason: reason }) => reason)).toEqual(['tool_calls', 'stop', 'tool_calls']);
  expect(choices.map(({ message }) => message)).toMatchObject([
    { content: null, reasoning_content: expect.stringContaining('Hm.'), tool_calls: called('get_weather', ARGUMENTS) },
    { content: TEXTS[1] },
    { content: null, tool_calls: called('add', '{}') },
  ]);
  expect(choices[1]?.message).not.toHaveProperty('tool_calls');
  expect(usage?.completion_tokens).toBe(answers.flat().length);
  const streamed = await harness.openai.chat.completions.stream(asked).finalChatCompletion();
  expect(streamed.choices.map(({ finish_reason: reason, message }) => [reason, message.tool_calls?.length ?? 0])).toEqual([
    ['tool_calls', 1],
    ['stop', 0],
    ['tool_calls', 1],
  ]);
  await harness.quiet();
});
