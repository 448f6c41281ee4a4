/** Whatever the body: it is taken, or refused by a ServiceError that is the client's fault and says so in plain words. */
import { httpStatus, openaiErrorBody, ServiceError } from '@causeway/errors';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { parseChatRequest, parseCompletionRequest } from './index.ts';

const FIELDS = [
  'max_tokens',
  'max_completion_tokens',
  'temperature',
  'top_p',
  'top_k',
  'seed',
  'stop',
  'stop_token_ids',
  'ignore_eos',
  'stream',
  'stream_options',
  'user',
  'causeway',
  'n',
  'best_of',
  'echo',
  'tools',
  'tool_choice',
  'parallel_tool_calls',
  'chat_template_kwargs',
  'include_reasoning',
  'logprobs',
  'response_format',
  'logit_bias',
  'top_logprobs',
  'min_p',
  'repetition_penalty',
  'presence_penalty',
  'frequency_penalty',
  'reasoning_effort',
  'modalities',
] as const;

/** Any JSON value; the strings of JSON.parse may hold half a surrogate pair. */
const json = fc.jsonValue({ stringUnit: 'binary', maxDepth: 4 });
const fields = fc.dictionary(fc.constantFrom<string>(...FIELDS), json, { maxKeys: 3 });
const text = fc.string({ unit: 'binary' });
const part = fc.oneof(json, fc.record({ type: fc.constantFrom('text', 'image_url'), text: fc.oneof(text, json) }));
const message = fc.oneof(
  json,
  fc.record({
    role: fc.oneof(fc.constantFrom<unknown>('system', 'developer', 'user', 'assistant', 'tool'), json),
    content: fc.oneof(text, json, fc.array(part)),
    tool_calls: fc.oneof(json, fc.array(fc.record({ id: json, type: fc.constantFrom('function', 'x'), function: json }))),
    tool_call_id: fc.oneof(text, json),
    name: json,
    reasoning_content: json,
  }),
);
const model = fc.oneof(fc.constant('m'), json);
const chat = fc
  .tuple(fields, fc.record({ model, messages: fc.oneof(json, fc.array(message)) }, { requiredKeys: [] }))
  .map(([extra, base]) => ({ ...extra, ...base }));
const completion = fc
  .tuple(fields, fc.record({ model, prompt: fc.oneof(text, json, fc.array(fc.oneof(fc.integer(), json))) }, { requiredKeys: [] }))
  .map(([extra, base]) => ({ ...extra, ...base }));

function check(parse: (body: unknown) => { options: { stop: readonly string[] } }, body: unknown): void {
  try {
    expect(parse(body).options.stop.every((stop) => stop !== '' && stop.isWellFormed())).toBe(true);
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    expect(httpStatus(error)).toBe(400);
    const { message: said, param } = openaiErrorBody(error).error;
    expect(said).not.toMatch(/Invalid input|expected (object|array|string|number|boolean), received/);
    if (param !== null) expect(said).toContain(`'${param}'`);
  }
}

it.each([
  ['chat', parseChatRequest, chat],
  ['completion', parseCompletionRequest, completion],
] as const)('any JSON is a %s request or a refusal of it', (_name, parse, bodies) => {
  fc.assert(
    fc.property(fc.oneof({ weight: 4, arbitrary: bodies as fc.Arbitrary<unknown> }, { weight: 1, arbitrary: json }), (body) => {
      check(parse, JSON.parse(JSON.stringify(body)));
    }),
    { numRuns: 1000 },
  );
});
