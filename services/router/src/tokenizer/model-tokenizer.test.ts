import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ModelTokenizer, openModelTokenizer } from './model-tokenizer.ts';

const MODEL = fileURLToPath(new URL('../../../../models/tiny-moe', import.meta.url));
const { signal } = new AbortController();
let tokenizer: ModelTokenizer;

beforeAll(async () => {
  tokenizer = await openModelTokenizer(MODEL, 1);
});
afterAll(() => tokenizer?.[Symbol.asyncDispose]());

describe('openModelTokenizer', () => {
  it('encodes a long text in its thread as a short one beside the event loop', async () => {
    const piece = 'Hello wörld 😀, ';
    const long = piece.repeat(200);
    const ids = Array.from(await tokenizer.encode(long, signal));
    const stream = tokenizer.decodeStream();
    expect(ids.map((id) => stream.push(id)).join('') + stream.flush()).toBe(long);
    const short = Array.from(await tokenizer.encode(piece, signal));
    expect(ids.slice(0, short.length - 2)).toEqual(short.slice(0, -2));
  });

  it('keeps the event loop free meanwhile', async () => {
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    await tokenizer.encode('a wide river '.repeat(20_000), signal);
    clearInterval(timer);
    expect(turns).toBeGreaterThan(10);
  });

  it('renders long conversations in the thread alike', async () => {
    const messages = [{ role: 'user' as const, content: 'hi' }];
    const many = Array.from({ length: 20 }, () => messages[0] ?? { role: 'user' as const, content: '' });
    const one = Array.from(await tokenizer.encodeChat(messages, {}, signal));
    const all = Array.from(await tokenizer.encodeChat(many, {}, signal));
    expect(all.slice(0, one.length - 1)).toEqual(one.slice(0, -1));
  });

  it('does a whole request in the thread, which takes the body over', async () => {
    const content = 'Hello wörld 😀, '.repeat(200);
    const limits = { model: 'tiny-moe', context: 10_000, vocabSize: tokenizer.vocabSize };
    const text = JSON.stringify({ model: 'tiny-moe', messages: [{ role: 'user', content }], stop: ['END'], seed: -1 });
    const body = new Uint8Array(Buffer.from(text));
    const { fields, prompts } = await tokenizer.request({ kind: 'chat', body, limits }, signal);
    const ids = Array.from(await tokenizer.encodeChat([{ role: 'user', content }], {}, signal));
    expect(Array.from(prompts[0]?.ids ?? [])).toEqual(ids);
    expect(fields).toMatchObject({ kind: 'chat', options: { stop: ['END'], seed: 2n ** 64n - 1n, maxTokens: undefined } });
    expect(body.byteLength).toBe(0);
    const bad = tokenizer.request({ kind: 'chat', body: new Uint8Array(Buffer.from('{"model":')), limits }, signal);
    await expect(bad).rejects.toMatchObject({ reason: 'bad_json', code: 'invalid_argument' });
  });

  it('ends with the request', async () => {
    const gone = new AbortController();
    const encoding = tokenizer.encode('a wide river '.repeat(20_000), gone.signal);
    gone.abort(new Error('gone'));
    await expect(encoding).rejects.toThrow('gone');
  });
});
