import { ServiceError } from '@causeway/errors';
import type { Tokenizer } from '@causeway/model-files';
import { inferenceV1 } from '@causeway/proto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { ServedLimits } from './checks.ts';
import { readRequest } from './read-request.ts';
import { doRequest } from './request-job.ts';
import type { RequestKind } from './request.ts';

const LIMITS: ServedLimits = { model: 'm', context: 100, vocabSize: 256 };

/** A token a byte; counts what it tokenizes. */
function bytesTokenizer(perToken = 1): { tokenizer: Tokenizer; tokenized: string[] } {
  const tokenized: string[] = [];
  const encode = (text: string): number[] => {
    tokenized.push(text);
    return [...Buffer.from(text)];
  };
  const renderChat: Tokenizer['renderChat'] = (messages) => messages.map(({ role, content }) => `${role}:${content}`).join('|');
  const tokenizer = {
    encode,
    encodeRendered: encode,
    decodeAll: (ids: readonly number[]) => Buffer.from(ids).toString(),
    renderChat,
    leastTokens: (bytes: number) => Math.ceil(bytes / perToken),
  } as unknown as Tokenizer;
  return { tokenizer, tokenized };
}

function run(kind: RequestKind, body: unknown, limits = LIMITS, perToken = 1): { ids: number[]; tokenized: string[] } {
  const { tokenizer, tokenized } = bytesTokenizer(perToken);
  const bytes = body instanceof Uint8Array ? body : Buffer.from(JSON.stringify(body));
  return { ids: [...(doRequest(tokenizer, { kind, body: bytes, limits }).prompts[0]?.ids ?? [])], tokenized };
}

function refusal(work: () => unknown): ServiceError {
  try {
    work();
  } catch (error) {
    if (error instanceof ServiceError) return error;
    throw error;
  }
  throw new Error('accepted');
}

const prompt = (text: string): object => ({ model: 'm', prompt: text });

describe('doRequest', () => {
  it('gives the ids of a prompt, of rendered messages, and those that were sent', () => {
    expect(run('completion', prompt('ab')).ids).toEqual([97, 98]);
    expect(run('completion', { model: 'm', prompt: [7, 9] }).ids).toEqual([7, 9]);
    const chat = run('chat', {
      model: 'm',
      messages: [
        { role: 'developer', content: 'x' },
        { role: 'user', content: 'y' },
      ],
    });
    expect(chat.tokenized).toEqual(['system:x|user:y']);
  });

  it('refuses a text that is longer than the context whatever its tokens are, without tokenizing it', () => {
    const { tokenizer, tokenized } = bytesTokenizer(4);
    const job = (length: number) => ({
      kind: 'completion' as const,
      body: Buffer.from(JSON.stringify(prompt('x'.repeat(length)))),
      limits: LIMITS,
    });
    const error = refusal(() => doRequest(tokenizer, job(400)));
    expect(error).toMatchObject({ reason: 'prompt_too_long', field: 'prompt' });
    expect(error.message).toBe('the prompt has 400 bytes, at least 100 tokens; the context of m holds 100 with the answer');
    expect(tokenized).toEqual([]);
    // One that might fit is tokenized, and its tokens decide.
    expect(refusal(() => doRequest(tokenizer, job(396))).message).toContain('396 tokens');
    expect(tokenized).toHaveLength(1);
    const messages = [{ role: 'user', content: 'x'.repeat(400) }];
    const chat = Buffer.from(JSON.stringify({ model: 'm', messages }));
    expect(refusal(() => doRequest(tokenizer, { kind: 'chat', body: chat, limits: LIMITS }))).toMatchObject({
      field: 'messages',
    });
    expect(tokenized).toHaveLength(1);
  });

  it.each([
    [{ model: 'other', prompt: 'x' }, 'unknown_model', 'model'],
    [{ model: 'm', prompt: Array.from({ length: 100 }, () => 999) }, 'prompt_too_long', 'prompt'],
    [{ model: 'm', prompt: [1, 256] }, 'invalid_token', 'prompt[1]'],
    [{ model: 'm', prompt: 'x', stop_token_ids: [0, 256] }, 'invalid_token', 'stop_token_ids[1]'],
    [{ model: 'm', prompt: 'x', logit_bias: { 3: 1, 256: 1 } }, 'invalid_token', 'logit_bias'],
  ])('refuses %j: %s', (body, reason, field) => {
    expect(refusal(() => run('completion', body))).toMatchObject({ reason, field });
  });

  it('refuses an answer that nobody could write before it tokenizes, and tokenizes for Tokenize all the same', () => {
    const nobody = { ...LIMITS, context: undefined };
    const { tokenizer, tokenized } = bytesTokenizer();
    const body = Buffer.from(JSON.stringify(prompt('x')));
    expect(refusal(() => doRequest(tokenizer, { kind: 'completion', body, limits: nobody }))).toMatchObject({
      reason: 'no_workers',
      retryAfterSeconds: 2,
    });
    expect(tokenized).toEqual([]);
    const request = inferenceV1.TokenizeRequest.fromPartial({ input: { $case: 'text', value: 'ab' } });
    const message = inferenceV1.TokenizeRequest.encode(request).finish();
    const { response } = doRequest(tokenizer, { kind: 'tokenize', body: message, limits: nobody });
    expect(inferenceV1.TokenizeResponse.decode(response ?? new Uint8Array())).toEqual({ ids: [97, 98] });
  });

  it("answers vLLM's requests about tokens in JSON, in a buffer that can be handed over", () => {
    const { tokenizer } = bytesTokenizer();
    const answer = (kind: RequestKind, body: object, limits = LIMITS): unknown => {
      const { response } = doRequest(tokenizer, { kind, body: Buffer.from(JSON.stringify(body)), limits });
      expect(response?.byteLength).toBe(response?.buffer.byteLength);
      return JSON.parse(Buffer.from(response ?? []).toString());
    };
    const tokenized = { count: 2, max_model_len: 100, tokens: [97, 98], token_strs: null };
    expect(answer('tokenize_http', { prompt: 'ab' })).toEqual(tokenized);
    const nobody = { ...LIMITS, context: undefined };
    expect(answer('tokenize_http', { prompt: 'ab' }, nobody)).toEqual({ ...tokenized, max_model_len: null });
    expect(answer('detokenize_http', { tokens: [97, 98] }, nobody)).toEqual({ prompt: 'ab' });
    const refused = (kind: RequestKind, body: object) => refusal(() => answer(kind, body));
    expect(refused('detokenize_http', { tokens: [97, 256] })).toMatchObject({ reason: 'invalid_token', field: 'tokens[1]' });
    expect(refused('detokenize_http', { model: 'other', tokens: [] })).toMatchObject({ reason: 'unknown_model' });
  });

  it('gives Tokenize more tokens than the context holds, as long as they might have fitted', () => {
    const request = inferenceV1.TokenizeRequest.fromPartial({ input: { $case: 'text', value: 'x'.repeat(300) } });
    const body = inferenceV1.TokenizeRequest.encode(request).finish();
    const { tokenizer } = bytesTokenizer(4);
    const { response } = doRequest(tokenizer, { kind: 'tokenize', body, limits: LIMITS });
    expect(inferenceV1.TokenizeResponse.decode(response ?? new Uint8Array()).ids).toHaveLength(300);
  });
});

describe('readRequest', () => {
  it.each(['chat', 'completion', 'generate', 'tokenize', 'tokenize_http', 'detokenize_http'] as const)(
    'any bytes are a %s request or a refusal of it',
    (kind) => {
      fc.assert(
        fc.property(
          fc.oneof(
            fc.uint8Array({ maxLength: 200 }),
            fc.json().map((text) => new Uint8Array(Buffer.from(text))),
          ),
          (bytes) => {
            try {
              readRequest(kind, bytes);
            } catch (error) {
              if (!(error instanceof ServiceError)) throw error;
              expect(error.code).toBe('invalid_argument');
            }
          },
        ),
        { numRuns: 500 },
      );
    },
  );
});
