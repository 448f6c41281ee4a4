import { ServiceError } from '@causeway/errors';
import { describe, expect, it } from 'vitest';
import { chatMessages, MAX_MESSAGE_CALLS } from './chat-messages.ts';

const call = { id: 'call_1', type: 'function', function: { name: 'add', arguments: '{"a": 1}' } };

function refusal(messages: unknown): ServiceError {
  try {
    chatMessages(messages);
  } catch (error) {
    if (error instanceof ServiceError) return error;
    throw error;
  }
  throw new Error(`accepted: ${JSON.stringify(messages).slice(0, 200)}`);
}

describe('messages of a conversation with tools', () => {
  it('keep calls, what tools answered, names and reasoning', () => {
    const messages = [
      { role: 'user', content: 'What is 1 + 1?', name: 'ann' },
      { role: 'assistant', content: null, tool_calls: [call], reasoning_content: 'I should add.' },
      { role: 'tool', tool_call_id: 'call_1', content: [{ type: 'text', text: '2' }], name: 'add' },
      { role: 'assistant', content: 'It is 2.', refusal: null, audio: null },
    ];
    expect(chatMessages(messages)).toEqual([
      messages[0],
      { ...messages[1], content: '' },
      { ...messages[2], content: '2' },
      { role: 'assistant', content: 'It is 2.' },
    ]);
  });

  it('take their own answers back: reasoning without content, calls with text, no calls as none', () => {
    expect(chatMessages([{ role: 'assistant', content: null, reasoning: 'Hm' }])).toEqual([
      { role: 'assistant', content: '', reasoning_content: 'Hm' },
    ]);
    expect(chatMessages([{ role: 'assistant', content: 'x', tool_calls: [call] }])).toMatchObject([{ content: 'x' }]);
    expect(chatMessages([{ role: 'assistant', content: 'x', tool_calls: [] }])).toEqual([{ role: 'assistant', content: 'x' }]);
  });

  it('take arguments as the model wrote them, JSON or not', () => {
    const broken = { ...call, function: { name: 'add', arguments: '{"a": \ud800' } };
    const [message] = chatMessages([{ role: 'assistant', tool_calls: [broken] }]);
    expect(message?.tool_calls?.[0]?.function.arguments).toBe('{"a": \ufffd');
  });

  it.each([
    [{ role: 'assistant', content: null }, 'bad_request', '.content'],
    [{ role: 'assistant', tool_calls: 'x' }, 'bad_request', '.tool_calls'],
    [{ role: 'assistant', tool_calls: [7] }, 'bad_request', '.tool_calls[0]'],
    [{ role: 'assistant', tool_calls: [{ ...call, id: 7 }] }, 'bad_request', '.tool_calls[0].id'],
    [{ role: 'assistant', tool_calls: [{ ...call, id: 'x'.repeat(300) }] }, 'bad_request', '.tool_calls[0].id'],
    [{ role: 'assistant', tool_calls: [call, { ...call, type: 'custom' }] }, 'unsupported_parameter', '.tool_calls[1].type'],
    [{ role: 'assistant', tool_calls: [{ ...call, function: null }] }, 'bad_request', '.tool_calls[0].function'],
    [
      { role: 'assistant', tool_calls: [{ ...call, function: { name: 'a b', arguments: '' } }] },
      'bad_request',
      '.tool_calls[0].function.name',
    ],
    [
      { role: 'assistant', tool_calls: [{ ...call, function: { name: 'add', arguments: {} } }] },
      'bad_request',
      '.tool_calls[0].function.arguments',
    ],
    [{ role: 'assistant', tool_calls: Array.from({ length: MAX_MESSAGE_CALLS + 1 }, () => 7) }, 'bad_request', '.tool_calls'],
    [{ role: 'assistant', content: 'x', function_call: { name: 'f' } }, 'unsupported_parameter', '.function_call'],
    [{ role: 'assistant', content: 'x', reasoning_content: 7 }, 'bad_request', '.reasoning_content'],
    [{ role: 'function', name: 'f', content: 'x' }, 'unsupported_parameter', '.role'],
    [{ role: 'tool', content: 'x' }, 'bad_request', '.tool_call_id'],
    [{ role: 'tool', tool_call_id: 'a' }, 'bad_request', '.content'],
    [{ role: 'user', content: 'x', name: 7 }, 'bad_request', '.name'],
  ])('refuses %j: %s at %s', (message, reason, field) => {
    const error = refusal([{ role: 'user', content: 'x' }, message]);
    expect([error.reason, error.field]).toEqual([reason, `messages[1]${field}`]);
    expect(error.message).toContain(`'messages[1]${field}'`);
  });
});
