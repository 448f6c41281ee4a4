import { ServiceError } from '@causeway/errors';
import { describe, expect, it } from 'vitest';
import { MAX_CONTENT_PARTS, MAX_MESSAGES } from './chat-messages.ts';
import { parseChatRequest } from './chat-request.ts';
import { MAX_LOGIT_BIAS } from './logit-bias.ts';
import { MAX_STOP_TOKENS } from './stop-fields.ts';

const messages = [{ role: 'user', content: 'Hello' }];
const body = { model: 'tiny-moe', messages };

function refusal(input: unknown): ServiceError {
  try {
    parseChatRequest(input);
  } catch (error) {
    if (error instanceof ServiceError) return error;
    throw error;
  }
  throw new Error(`accepted: ${JSON.stringify(input).slice(0, 200)}`);
}

describe('parseChatRequest', () => {
  it('fills in the defaults', () => {
    expect(parseChatRequest(body)).toEqual({
      model: 'tiny-moe',
      messages,
      options: {
        n: 1,
        echo: false,
        maxTokens: undefined,
        temperature: 1,
        topP: 1,
        topK: 0,
        seed: undefined,
        minP: 0,
        repetitionPenalty: 1,
        presencePenalty: 0,
        frequencyPenalty: 0,
        logitBias: [],
        logprobs: undefined,
        stop: [],
        stopTokenIds: [],
        ignoreEos: false,
        minTokens: 0,
        stream: false,
        includeUsage: false,
        user: undefined,
        placement: undefined,
      },
      template: { tools: [], variables: {} },
      output: { tools: [], parallel: true, reasoning: true, forced: false },
    });
  });

  it('reads every field that is served', () => {
    const { options } = parseChatRequest({
      ...body,
      n: 3,
      max_tokens: 5,
      max_completion_tokens: 7,
      temperature: 0,
      top_p: 0.5,
      top_k: 40,
      seed: -1,
      min_p: 0.05,
      repetition_penalty: 1.1,
      presence_penalty: -2,
      frequency_penalty: 2,
      logit_bias: { 7: -100, 50: 1.5 },
      logprobs: true,
      top_logprobs: 20,
      stop: 'END',
      stop_token_ids: [7, 9],
      ignore_eos: true,
      min_tokens: 4,
      stream: true,
      stream_options: { include_usage: true },
      user: 'me',
      causeway: { placement: 'local' },
    });
    expect(options).toEqual({
      n: 3,
      echo: false,
      maxTokens: 7,
      temperature: 0,
      topP: 0.5,
      topK: 40,
      seed: 0xffff_ffff_ffff_ffffn,
      minP: 0.05,
      repetitionPenalty: 1.1,
      presencePenalty: -2,
      frequencyPenalty: 2,
      logitBias: [
        { id: 7, bias: -100 },
        { id: 50, bias: 1.5 },
      ],
      logprobs: 20,
      stop: ['END'],
      stopTokenIds: [7, 9],
      ignoreEos: true,
      minTokens: 4,
      stream: true,
      includeUsage: true,
      user: 'me',
      placement: 'local',
    });
  });

  it('treats null as absent and ignores unknown fields', () => {
    const nulls = {
      max_tokens: null,
      temperature: null,
      stop: null,
      seed: null,
      stream: null,
      stream_options: null,
      tools: null,
    };
    expect(parseChatRequest({ ...body, ...nulls, something_new: { a: 1 } })).toEqual(parseChatRequest(body));
  });

  it('joins text parts and reads developer messages as system messages', () => {
    const parsed = parseChatRequest({
      ...body,
      messages: [
        { role: 'developer', content: 'Be brief.' },
        {
          role: 'user',
          content: [
            { type: 'text', text: 'Hel' },
            { type: 'text', text: 'lo' },
          ],
        },
      ],
    });
    expect(parsed.messages).toEqual([
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: 'Hello' },
    ]);
  });

  it.each([
    [{ messages }, 'bad_request', 'model'],
    [{ ...body, model: 7 }, 'bad_request', 'model'],
    [{ model: 'x' }, 'bad_request', 'messages'],
    [{ ...body, messages: [] }, 'empty_prompt', 'messages'],
    [{ ...body, messages: 'hi' }, 'bad_request', 'messages'],
    [{ ...body, messages: [{ role: 'user' }] }, 'bad_request', 'messages[0].content'],
    [{ ...body, messages: [{ role: 'wizard', content: 'x' }] }, 'bad_request', 'messages[0].role'],
    [{ ...body, messages: [null] }, 'bad_request', 'messages[0]'],
    [{ ...body, messages: [{ role: 'tool', content: 'x' }] }, 'bad_request', 'messages[0].tool_call_id'],
    [{ ...body, messages: [{ role: 'user', content: [{ type: 'text' }] }] }, 'bad_request', 'messages[0].content[0].text'],
    [
      { ...body, messages: [{ role: 'user', content: [{ type: 'image_url', image_url: {} }] }] },
      'unsupported_parameter',
      'messages[0].content[0].type',
    ],
    [{ ...body, max_tokens: 0 }, 'bad_request', 'max_tokens'],
    [{ ...body, max_tokens: 1.5 }, 'bad_request', 'max_tokens'],
    [{ ...body, temperature: -0.1 }, 'bad_sampling', 'temperature'],
    [{ ...body, temperature: 2.1 }, 'bad_sampling', 'temperature'],
    [{ ...body, temperature: 'hot' }, 'bad_sampling', 'temperature'],
    [{ ...body, top_p: 0 }, 'bad_sampling', 'top_p'],
    [{ ...body, top_p: 1.01 }, 'bad_sampling', 'top_p'],
    [{ ...body, top_k: -2 }, 'bad_sampling', 'top_k'],
    [{ ...body, seed: 1.5 }, 'bad_sampling', 'seed'],
    [{ ...body, seed: 2 ** 60 }, 'bad_sampling', 'seed'],
    [{ ...body, stop: ['a', 'b', 'c', 'd', 'e'] }, 'bad_request', 'stop'],
    [{ ...body, stop: '' }, 'bad_request', 'stop'],
    [{ ...body, stop: ['a', ''] }, 'bad_request', 'stop[1]'],
    [{ ...body, stop: [1] }, 'bad_request', 'stop[0]'],
    [{ ...body, stop: { a: 1 } }, 'bad_request', 'stop'],
    [{ ...body, stop: '\ude00' }, 'bad_request', 'stop'],
    [{ ...body, stop: ['a', 'b\ud83d'] }, 'bad_request', 'stop[1]'],
    [{ ...body, stop_token_ids: 7 }, 'bad_request', 'stop_token_ids'],
    [{ ...body, stop_token_ids: [1, -1] }, 'bad_request', 'stop_token_ids[1]'],
    [{ ...body, stop_token_ids: Array.from({ length: MAX_STOP_TOKENS + 1 }, () => 1) }, 'bad_request', 'stop_token_ids'],
    [{ ...body, ignore_eos: 1 }, 'bad_request', 'ignore_eos'],
    [{ ...body, reasoning_effort: 'high' }, 'unsupported_parameter', 'reasoning_effort'],
    [{ ...body, stream: 'yes' }, 'bad_request', 'stream'],
    [{ ...body, stream_options: { include_usage: true } }, 'bad_request', 'stream_options'],
    [{ ...body, causeway: { placement: 'moon' } }, 'bad_request', 'causeway.placement'],
    [{ ...body, n: 0 }, 'bad_request', 'n'],
    [{ ...body, n: 17 }, 'bad_request', 'n'],
    [{ ...body, n: 2, best_of: 4 }, 'unsupported_parameter', 'best_of'],
    [{ ...body, echo: true }, 'unsupported_parameter', 'echo'],
    [{ ...body, logprobs: 1 }, 'bad_request', 'logprobs'],
    [{ ...body, logprobs: true, top_logprobs: 21 }, 'bad_request', 'top_logprobs'],
    [{ ...body, logprobs: true, top_logprobs: -1 }, 'bad_request', 'top_logprobs'],
    [{ ...body, logprobs: true, top_logprobs: 1.5 }, 'bad_request', 'top_logprobs'],
    [{ ...body, logprobs: true, top_logprobs: '5' }, 'bad_request', 'top_logprobs'],
    [{ ...body, top_logprobs: 5 }, 'bad_request', 'top_logprobs'],
    [{ ...body, logprobs: false, top_logprobs: 5 }, 'bad_request', 'top_logprobs'],
    [{ ...body, tools: [{}] }, 'bad_request', 'tools[0].type'],
    [{ ...body, response_format: { type: 'xml' } }, 'unsupported_parameter', 'response_format.type'],
    [{ ...body, guided_grammar: 'root ::= "x"' }, 'unsupported_parameter', 'guided_grammar'],
    [{ ...body, logit_bias: [5] }, 'bad_request', 'logit_bias'],
    [{ ...body, logit_bias: 'x' }, 'bad_request', 'logit_bias'],
    [{ ...body, logit_bias: { Paris: 1 } }, 'invalid_token', 'logit_bias'],
    [{ ...body, logit_bias: { '05': 1 } }, 'invalid_token', 'logit_bias'],
    [{ ...body, logit_bias: { '-1': 1 } }, 'invalid_token', 'logit_bias'],
    [{ ...body, logit_bias: { 1e3: 1, '4294967296': 1 } }, 'invalid_token', 'logit_bias'],
    [{ ...body, logit_bias: { 5: 100.5 } }, 'bad_sampling', 'logit_bias.5'],
    [{ ...body, logit_bias: { 5: '1' } }, 'bad_request', 'logit_bias.5'],
    [{ ...body, logit_bias: { 5: null } }, 'bad_request', 'logit_bias.5'],
    [{ ...body, presence_penalty: 2.1 }, 'bad_sampling', 'presence_penalty'],
    [{ ...body, frequency_penalty: '1' }, 'bad_sampling', 'frequency_penalty'],
    [{ ...body, repetition_penalty: 0 }, 'bad_sampling', 'repetition_penalty'],
    [{ ...body, repetition_penalty: -1 }, 'bad_sampling', 'repetition_penalty'],
    [{ ...body, min_p: 1.01 }, 'bad_sampling', 'min_p'],
    [{ ...body, min_p: -0.1 }, 'bad_sampling', 'min_p'],
  ])('refuses %j: %s at %s', (input, reason, field) => {
    const error = refusal(input);
    expect([error.code, error.reason, error.field]).toEqual(['invalid_argument', reason, field]);
    expect(error.message).toContain(field);
  });

  it.each([
    { n: 1 },
    { logprobs: false },
    { logprobs: false, top_logprobs: 0 },
    { repetition_penalty: 1, min_p: 0 },
    { tools: [] },
    { tool_choice: 'none' },
    { reasoning_effort: 'none' },
    { response_format: { type: 'text' } },
    { logit_bias: {} },
    { presence_penalty: 0, frequency_penalty: 0 },
  ])('accepts %j, which asks for nothing more', (extra) => {
    expect(parseChatRequest({ ...body, ...extra })).toEqual(parseChatRequest(body));
  });

  it.each([null, [], 'text', 7, true])('refuses a body that is not an object: %j', (input) => {
    expect(refusal(input).message).toContain('JSON object');
  });

  it('takes a bias for so many tokens and no more', () => {
    const bias = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, id) => [id, 1]));
    const { options } = parseChatRequest({ ...body, logit_bias: bias(MAX_LOGIT_BIAS) });
    expect(options.logitBias).toHaveLength(MAX_LOGIT_BIAS);
    expect(refusal({ ...body, logit_bias: bias(MAX_LOGIT_BIAS + 1) }).message).toContain(`at most ${MAX_LOGIT_BIAS}`);
  });

  it('counts messages before it looks at them', () => {
    const many = Array.from({ length: MAX_MESSAGES + 1 }, () => 7);
    expect(refusal({ ...body, messages: many }).message).toContain(`at most ${MAX_MESSAGES}`);
  });

  it('counts content parts before it looks at them, and stops at the first bad one', () => {
    const parts = (count: number): unknown => ({ role: 'user', content: Array.from({ length: count }, () => 1) });
    expect(refusal({ ...body, messages: [parts(MAX_CONTENT_PARTS + 1)] }).message).toContain(`at most ${MAX_CONTENT_PARTS}`);
    const error = refusal({ ...body, messages: Array.from({ length: 500 }, () => parts(1000)) });
    expect(error.field).toBe('messages[0].content[0]');
  });

  it.each([
    ['x', 'messages[0].content[0]', 'a string'],
    [7, 'messages[0].content[0]', 'a number'],
    [null, 'messages[0].content[0]', 'null'],
    [[], 'messages[0].content[0]', 'a list'],
    [{ type: 'text', text: 7 }, 'messages[0].content[0].text', 'a number'],
    [{ type: 7 }, 'messages[0].content[0].type', 'a number'],
  ])("says what is wrong with the part %j as OpenAI does, in none of a library's words", (part, field, got) => {
    const error = refusal({ ...body, messages: [{ role: 'user', content: [part] }] });
    expect(error.field).toBe(field);
    expect(error.message).toMatch(/^Invalid type for '.*': expected .*, but got .* instead\.$/);
    expect(error.message).toContain(`'${field}'`);
    expect(error.message).toContain(`but got ${got} instead`);
  });

  it('takes half a surrogate pair in a text for U+FFFD', () => {
    const halves = [
      { role: 'user', content: 'a\ud83d' },
      { role: 'user', content: [{ type: 'text', text: '\ude00b' }] },
    ];
    expect(parseChatRequest({ ...body, messages: halves }).messages.map(({ content }) => content)).toEqual([
      'a\ufffd',
      '\ufffdb',
    ]);
    const pair = [
      { type: 'text', text: '\ud83d' },
      { type: 'text', text: '\ude00' },
    ];
    expect(parseChatRequest({ ...body, messages: [{ role: 'user', content: pair }] }).messages[0]?.content).toBe('😀');
  });

  it('says that a field is missing rather than of the wrong type', () => {
    expect(refusal({ messages }).message).toContain("'model' is required");
  });
});
