import { describe, expect, it } from 'vitest';
import { parseChatRequest } from './chat-request.ts';

const city = { type: 'object', properties: { city: { $ref: '#/$defs/name' } }, $defs: { name: { type: 'string' } } };
const weather = { type: 'function', function: { name: 'get_weather', parameters: city } };
const add = { type: 'function', function: { name: 'add' } };
const body = { model: 'm', messages: [{ role: 'user', content: 'Hello' }], tools: [weather, add] };

function heldTo(choice: unknown): { schema: unknown; field: string } {
  const { options, output } = parseChatRequest({ ...body, tool_choice: choice });
  expect(output.forced).toBe(true);
  const { constraint, field } = options.format ?? {};
  if (constraint?.kind !== 'json_schema') throw new Error('no schema');
  return { schema: JSON.parse(constraint.schema) as unknown, field: field ?? '' };
}

const branch = (name: string, parameters: object) => ({
  type: 'object',
  properties: { name: { const: name }, parameters },
  required: ['name', 'parameters'],
  additionalProperties: false,
});

describe('a call that must come', () => {
  it('is of any tool, or of the named one, with parameters by its schema', () => {
    const moved = (index: number): object => ({
      ...city,
      properties: { city: { $ref: `#/anyOf/${index}/properties/parameters/$defs/name` } },
    });
    const none = { type: 'object', properties: {}, additionalProperties: false };
    expect(heldTo('required')).toEqual({
      schema: { anyOf: [branch('get_weather', moved(0)), branch('add', none)] },
      field: 'tool_choice',
    });
    expect(heldTo({ type: 'function', function: { name: 'get_weather' } }).schema).toEqual({
      anyOf: [branch('get_weather', moved(0))],
    });
  });

  it('is not asked for by "auto" and "none"', () => {
    for (const tool_choice of ['auto', 'none', undefined]) {
      const { options, output } = parseChatRequest({ ...body, tool_choice });
      expect([options.format, output.forced]).toEqual([undefined, false]);
    }
  });
});
