import { ServiceError } from '@causeway/errors';
import { describe, expect, it } from 'vitest';
import { parseChatRequest } from './chat-request.ts';
import { MAX_TEMPLATE_VARIABLES } from './template-variables.ts';
import { MAX_TOOL_DEPTH, MAX_TOOLS } from './tools.ts';

const body = { model: 'm', messages: [{ role: 'user', content: 'Hello' }] };
const parameters = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] };
const weather = { type: 'function', function: { name: 'get_weather', description: 'The weather', parameters, strict: true } };
const add = { type: 'function', function: { name: 'add' } };

function refusal(input: object): ServiceError {
  try {
    parseChatRequest(input);
  } catch (error) {
    if (error instanceof ServiceError) return error;
    throw error;
  }
  throw new Error(`accepted: ${JSON.stringify(input).slice(0, 200)}`);
}

const nested = (depth: number): unknown => (depth === 0 ? 1 : { a: nested(depth - 1) });
const named = (name: string) => ({ type: 'function', function: { name } });

describe('tools', () => {
  it('reach the template as they are, and the answer by their names', () => {
    const { template, output } = parseChatRequest({ ...body, tools: [weather, add], parallel_tool_calls: false });
    expect(template).toEqual({ tools: [weather, add], variables: {} });
    const callable = ['get_weather', 'add'].map((name) => ({ name, jsonParameters: [] }));
    expect(output).toEqual({ tools: callable, parallel: false, reasoning: true, forced: false });
  });

  it('say which parameters are no strings', () => {
    const properties = {
      a: { type: 'string' },
      b: { type: 'integer' },
      c: { type: ['string', 'null'] },
      d: { type: ['object', 'null'] },
      e: { anyOf: [{ type: 'number' }, { type: 'boolean' }] },
      f: { oneOf: [{ type: 'number' }, { type: 'string' }] },
      g: { enum: ['x'] },
      h: {},
      i: true,
      __proto__: { type: 'array' },
    };
    const tool = { type: 'function', function: { name: 'f', parameters: { type: 'object', properties } } };
    expect(parseChatRequest({ ...body, tools: [tool] }).output.tools).toEqual([{ name: 'f', jsonParameters: ['b', 'd', 'e'] }]);
    for (const broken of [{ properties: 7 }, { properties: null }, { properties: [1] }, {}]) {
      const odd = { type: 'function', function: { name: 'f', parameters: broken } };
      expect(parseChatRequest({ ...body, tools: [odd] }).output.tools).toMatchObject([{ name: 'f' }]);
    }
  });

  it('with tool_choice "none" reach neither', () => {
    const plain = parseChatRequest(body);
    expect(parseChatRequest({ ...body, tools: [weather], tool_choice: 'none' })).toEqual(plain);
    expect(parseChatRequest({ ...body, tools: null, tool_choice: null, parallel_tool_calls: null })).toEqual(plain);
    expect(parseChatRequest({ ...body, tools: [weather], tool_choice: 'auto' }).output.tools).toMatchObject([
      { name: 'get_weather' },
    ]);
  });

  it.each([
    [{ tools: 'x' }, 'bad_request', 'tools'],
    [{ tools: [7] }, 'bad_request', 'tools[0]'],
    [{ tools: [add, { type: 'retrieval' }] }, 'unsupported_parameter', 'tools[1].type'],
    [{ tools: [{ type: 'function' }] }, 'bad_request', 'tools[0].function'],
    [{ tools: [{ type: 'function', function: {} }] }, 'bad_request', 'tools[0].function.name'],
    [{ tools: [named('')] }, 'bad_request', 'tools[0].function.name'],
    [{ tools: [named('a b')] }, 'bad_request', 'tools[0].function.name'],
    [{ tools: [named('x'.repeat(65))] }, 'bad_request', 'tools[0].function.name'],
    [{ tools: [add, add] }, 'bad_request', 'tools[1].function.name'],
    [{ tools: [{ type: 'function', function: { name: 'f', description: 7 } }] }, 'bad_request', 'tools[0].function.description'],
    [{ tools: [{ type: 'function', function: { name: 'f', parameters: [] } }] }, 'bad_request', 'tools[0].function.parameters'],
    [
      { tools: [{ type: 'function', function: { name: 'f', parameters: nested(MAX_TOOL_DEPTH) } }] },
      'bad_request',
      'tools[0].function',
    ],
    [{ tools: Array.from({ length: MAX_TOOLS + 1 }, () => 7) }, 'bad_request', 'tools'],
    [{ tools: [add], parallel_tool_calls: 'yes' }, 'bad_request', 'parallel_tool_calls'],
    [{ tools: [add], tool_choice: 'always' }, 'bad_request', 'tool_choice'],
    [{ tools: [add], tool_choice: 7 }, 'bad_request', 'tool_choice'],
    [{ tools: [add], tool_choice: { type: 'function' } }, 'bad_request', 'tool_choice.function'],
    [{ tools: [add], tool_choice: { type: 'x', function: { name: 'add' } } }, 'bad_request', 'tool_choice.type'],
    [{ tools: [add], tool_choice: named('sub') }, 'bad_request', 'tool_choice.function.name'],
    [{ tools: [add], tool_choice: 'required', response_format: { type: 'json_object' } }, 'bad_request', 'tool_choice'],
    [{ tools: [add], tool_choice: named('add'), guided_regex: 'x' }, 'bad_request', 'tool_choice'],
    [{ tool_choice: 'required' }, 'bad_request', 'tool_choice'],
    [{ functions: [{ name: 'f' }] }, 'unsupported_parameter', 'functions'],
    [{ function_call: { name: 'f' } }, 'unsupported_parameter', 'function_call'],
    [{ include_reasoning: 1 }, 'bad_request', 'include_reasoning'],
    [{ chat_template_kwargs: [] }, 'bad_request', 'chat_template_kwargs'],
    [{ chat_template_kwargs: { 'a b': 1 } }, 'bad_request', 'chat_template_kwargs'],
    [{ chat_template_kwargs: { messages: [] } }, 'bad_request', 'chat_template_kwargs'],
    [{ chat_template_kwargs: { a: nested(20) } }, 'bad_request', 'chat_template_kwargs'],
  ])('refuses %j: %s at %s', (extra, reason, field) => {
    const error = refusal({ ...body, ...extra });
    expect([error.code, error.reason, error.field]).toEqual(['invalid_argument', reason, field]);
    expect(error.message).toContain(`'${field}'`);
  });

  it('are nested no deeper than a template can walk, however deep the body', () => {
    let deep: unknown = 1;
    for (let depth = 0; depth < 100_000; depth++) deep = [deep];
    expect(refusal({ ...body, tools: [{ type: 'function', function: { name: 'f', x: deep } }] }).field).toBe('tools[0].function');
    const most = { type: 'function', function: { name: 'f', parameters: nested(MAX_TOOL_DEPTH - 1) } };
    expect(parseChatRequest({ ...body, tools: [most] }).template.tools).toEqual([most]);
  });
});

describe('chat_template_kwargs', () => {
  it('reach the template, so many and no more', () => {
    const variables = { enable_thinking: false, custom: { a: [1] } };
    expect(parseChatRequest({ ...body, chat_template_kwargs: variables }).template.variables).toEqual(variables);
    const many = Object.fromEntries(Array.from({ length: MAX_TEMPLATE_VARIABLES + 1 }, (_, at) => [`v${at}`, at]));
    expect(refusal({ ...body, chat_template_kwargs: many }).message).toContain(`at most ${MAX_TEMPLATE_VARIABLES}`);
  });
});
