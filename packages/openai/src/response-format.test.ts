import { ServiceError } from '@causeway/errors';
import { GRAMMAR_LIMITS } from '@causeway/grammar';
import { describe, expect, it } from 'vitest';
import { answerFormat } from './response-format.ts';

const schema = { type: 'object', properties: { a: { type: 'integer' } } };
const SCHEMA = { kind: 'json_schema', schema: JSON.stringify(schema) };
const named = (more: object) => ({ response_format: { type: 'json_schema', json_schema: { name: 'n', schema, ...more } } });

function refusal(body: Record<string, unknown>): ServiceError {
  try {
    answerFormat(body);
  } catch (error) {
    if (error instanceof ServiceError) return error;
    throw error;
  }
  throw new Error(`accepted: ${JSON.stringify(body)}`);
}

/** Deeper than any stack. */
function deep(): unknown {
  let value: unknown = {};
  for (let i = 0; i < 200_000; i++) value = { not: value };
  return value;
}

describe('answerFormat', () => {
  it.each([
    [{}, undefined],
    [{ response_format: null, guided_json: null }, undefined],
    [{ response_format: { type: 'text' } }, undefined],
    [{ structured_outputs: {} }, undefined],
    [{ response_format: { type: 'json_object' } }, { constraint: { kind: 'json_object' }, field: 'response_format' }],
    [named({}), { constraint: SCHEMA, field: 'response_format.json_schema.schema' }],
    [named({ strict: true, description: 'd' }), { constraint: SCHEMA, field: 'response_format.json_schema.schema' }],
    [{ guided_json: schema }, { constraint: SCHEMA, field: 'guided_json' }],
    [{ guided_json: JSON.stringify(schema) }, { constraint: SCHEMA, field: 'guided_json' }],
    [{ guided_regex: 'a+' }, { constraint: { kind: 'regex', pattern: 'a+' }, field: 'guided_regex' }],
    [{ guided_choice: ['a', 'b'] }, { constraint: { kind: 'choice', choices: ['a', 'b'] }, field: 'guided_choice' }],
    [{ structured_outputs: { json: schema } }, { constraint: SCHEMA, field: 'structured_outputs.json' }],
    [
      { structured_outputs: { json_object: true } },
      { constraint: { kind: 'json_object' }, field: 'structured_outputs.json_object' },
    ],
    [
      { response_format: { type: 'text' }, guided_regex: 'a' },
      { constraint: { kind: 'regex', pattern: 'a' }, field: 'guided_regex' },
    ],
  ])('reads %j', (body, format) => {
    expect(answerFormat(body)).toEqual(format);
  });

  it.each([
    [{ response_format: 'json' }, 'bad_request', 'response_format'],
    [{ response_format: {} }, 'bad_request', 'response_format.type'],
    [{ response_format: { type: 'grammar' } }, 'unsupported_parameter', 'response_format.type'],
    [{ response_format: { type: 'json_schema' } }, 'bad_request', 'response_format.json_schema'],
    [named({ name: undefined }), 'bad_request', 'response_format.json_schema.name'],
    [named({ name: 'two words' }), 'bad_request', 'response_format.json_schema.name'],
    [named({ strict: 'yes' }), 'bad_request', 'response_format.json_schema.strict'],
    [named({ schema: undefined }), 'bad_request', 'response_format.json_schema.schema'],
    [named({ schema: [schema] }), 'bad_request', 'response_format.json_schema.schema'],
    [named({ schema: { enum: ['x'.repeat(GRAMMAR_LIMITS.bytes)] } }), 'bad_request', 'response_format.json_schema.schema'],
    [named({ schema: deep() }), 'bad_request', 'response_format.json_schema.schema'],
    [{ guided_regex: 7 }, 'bad_request', 'guided_regex'],
    [{ guided_choice: [] }, 'bad_request', 'guided_choice'],
    [{ guided_choice: ['a', ''] }, 'bad_request', 'guided_choice[1]'],
    [{ structured_outputs: { json: schema, regex: 'a' } }, 'bad_request', 'structured_outputs'],
    [{ structured_outputs: { structural_tag: '{}' } }, 'unsupported_parameter', 'structured_outputs'],
    [{ response_format: { type: 'json_object' }, guided_regex: 'a' }, 'bad_request', 'guided_regex'],
  ])('refuses case %#', (body, reason, field) => {
    expect(refusal(body)).toMatchObject({ code: 'invalid_argument', reason, field });
  });
});
