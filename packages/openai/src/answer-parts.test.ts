import { describe, expect, it } from 'vitest';
import { AnswerMessage, type AnswerPart } from './answer-parts.ts';
import { answerJson, choiceJson, streamEvents } from './responses.ts';
import type { Usage } from './usage.ts';

const head = { id: 'chatcmpl-1', created: 1, model: 'm' };
const usage = { prompt_tokens: 1, completion_tokens: 2, total_tokens: 3 } as Usage;
const call = (index: number, valid: boolean): AnswerPart[] => [
  { kind: 'call', index, id: `call_${index}`, name: 'add' },
  { kind: 'arguments', index, text: '{"a":' },
  { kind: 'arguments', index, text: valid ? '1}' : '' },
  { kind: 'call_end', index, valid, source: `<${index}>` },
];
const thought: AnswerPart = { kind: 'reasoning', text: 'Hm.' };

interface Body {
  choices: { message: object; finish_reason: string }[];
}

function choice(parts: readonly AnswerPart[]): Body['choices'][number] | undefined {
  const message = new AnswerMessage();
  message.add(parts);
  return (JSON.parse(answerJson('chat', head, [choiceJson('chat', 0, message, 'tool_calls', null)], usage)) as Body).choices[0];
}

describe('the message of a whole answer', () => {
  it('has calls, reasoning and content, each only where there is some; without text it is null', () => {
    const called = [{ id: 'call_0', type: 'function', function: { name: 'add', arguments: '{"a":1}' } }];
    const message = { role: 'assistant', content: null, refusal: null };
    expect(choice([thought, ...call(0, true)])).toMatchObject({
      message: { ...message, reasoning_content: 'Hm.', tool_calls: called },
      finish_reason: 'tool_calls',
    });
    expect(choice([{ kind: 'content', text: 'Hi' }])?.message).toEqual({ ...message, content: 'Hi' });
    expect(choice([])?.message).toEqual({ ...message, content: '' });
    expect(choice([thought])?.message).toEqual({ ...message, reasoning_content: 'Hm.' });
  });

  it('has calls that are no JSON as content, and if there are no others ends as text does', () => {
    expect(choice(call(0, false))).toMatchObject({ message: { content: '<0>' }, finish_reason: 'stop' });
    expect(choice([...call(0, false), ...call(1, true)])).toMatchObject({
      message: { content: '<0>', tool_calls: [{ id: 'call_1' }] },
      finish_reason: 'tool_calls',
    });
  });
});

describe('the chunks of a stream', () => {
  const events = streamEvents('chat', head, false);
  const read = (text: string) =>
    text
      .split('\n\n')
      .filter((event) => event !== '')
      .map((event) => (JSON.parse(event.slice(6)) as { choices: { delta: object; logprobs: object | null }[] }).choices[0]);

  it('are one for each part, the log-probabilities of their token with the first', () => {
    const logprobs = { content: [] };
    const chunks = read(events.parts(0, [thought, ...call(0, true)], logprobs));
    expect(chunks.map((chunk) => chunk?.delta)).toEqual([
      { reasoning_content: 'Hm.' },
      { tool_calls: [{ index: 0, id: 'call_0', type: 'function', function: { name: 'add', arguments: '' } }] },
      { tool_calls: [{ index: 0, function: { arguments: '{"a":' } }] },
      { tool_calls: [{ index: 0, function: { arguments: '1}' } }] },
    ]);
    expect(chunks.map((chunk) => chunk?.logprobs)).toEqual([logprobs, null, null, null]);
  });

  it('are none without parts, but for log-probabilities', () => {
    expect(events.parts(0, [])).toBe('');
    expect(read(events.parts(0, [], { content: [] }))).toMatchObject([{ delta: { content: '' }, logprobs: { content: [] } }]);
  });
});
