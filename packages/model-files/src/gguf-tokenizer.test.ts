import { describe, expect, it } from 'vitest';
import { ggufTokenizerSource } from './gguf-tokenizer.ts';
import type { GgufValue } from './gguf-reader.ts';
import { BOS, byteTokenizerMetadata, EOS, USER_DEFINED } from './testing/byte-tokenizer.ts';
import { refusal } from './testing/scratch.ts';
import { loadTokenizer } from './tokenizer.ts';

const source = (changes?: Readonly<Record<string, GgufValue>>) => ggufTokenizerSource('x.gguf', byteTokenizerMetadata(changes));
const load = (changes?: Readonly<Record<string, GgufValue>>) => loadTokenizer(source(changes)!);
const code = (text: string) => [...Buffer.from(text)];

describe('a tokenizer from GGUF metadata', () => {
  it('merges bytes in order of rank', () => {
    const [he, ll, , hell] = [256, 257, 258, 259];
    expect(load().encode('hello')).toEqual([hell, ...code('o')]);
    expect(load().encode('he ll')).toEqual([he, 32, ll]);
    expect(load().encode('é')).toEqual(code('é'));
  });

  it.each([
    ['of nothing and something', [' h', 'h ']],
    ['of nothing at all', ['', ' ']],
    ['of no two pieces', ['h', 'h e l']],
    ['in a circle', ['h e', 'e h', 'he he', 'l he']],
    ['of what is no token', ['z y', 'zy zy']],
  ])('refuses merges %s: text would be lost', async (_, merges) => {
    const error = await refusal(() => load({ 'tokenizer.ggml.merges': merges }));
    expect(error).toMatchObject({ reason: 'malformed_file', message: expect.stringContaining('x.gguf: tokenizer.ggml.merges') });
  });

  it('takes merges twice, and before what they are made of', () => {
    const loaded = load({ 'tokenizer.ggml.merges': ['he ll', 'h e', 'h e', 'l l'] });
    const text = 'hello zyzy hehe';
    expect(loaded.decode(loaded.encode(text))).toBe(text);
  });

  it('keeps digits apart where the pre-tokenizer does, and only there', () => {
    expect(load().encode('1234')).toEqual(code('1234'));
    expect(load({ 'tokenizer.ggml.pre': 'gpt-2' }).encode('1234')).toEqual([258, ...code('34')]);
    expect(load({ 'tokenizer.ggml.pre': 'llama-bpe', 'tokenizer.ggml.add_bos_token': false }).encode('1234')).toEqual([
      258,
      ...code('34'),
    ]);
  });

  it('takes control and user-defined tokens whole; only control tokens are silent', () => {
    const tokenizer = load();
    expect(tokenizer.encode('a<eos>b<tool>')).toEqual([97, EOS, 98, USER_DEFINED]);
    expect(tokenizer.decode([97, EOS, 98, USER_DEFINED])).toBe('ab<tool>');
    expect(tokenizer.vocabSize).toBe(USER_DEFINED + 1);
  });

  it('begins texts with the beginning-of-sequence token when the file says so, never twice', () => {
    expect(load().encode('a')).toEqual([97]);
    const tokenizer = load({ 'tokenizer.ggml.add_bos_token': true });
    expect(tokenizer.encode('a')).toEqual([BOS, 97]);
    expect(tokenizer.encode('<bos>a')).toEqual([BOS, 97]);
    expect(tokenizer.encode('')).toEqual([BOS]);
    expect(load({ 'tokenizer.ggml.pre': 'llama-bpe' }).encode('a')).toEqual([BOS, 97]);
  });

  it('renders the chat template with its special tokens, and adds nothing to it', () => {
    const template = '{{ bos_token }}{% for m in messages %}{{ m.role }}:{{ m.content }}{{ eos_token }}{% endfor %}';
    const tokenizer = load({ 'tokenizer.chat_template': template, 'tokenizer.ggml.add_bos_token': true });
    expect(tokenizer.renderChat([{ role: 'u', content: 'x' }])).toBe('<bos>u:x<eos>');
    expect(tokenizer.encodeChat([{ role: 'u', content: 'x' }])).toEqual([BOS, ...code('u:x'), EOS]);
  });

  it('is undefined without metadata', () => {
    expect(ggufTokenizerSource('x.gguf', new Map())).toBeUndefined();
  });

  it('refuses other kinds and bad lists, by name', async () => {
    const error = (changes: Readonly<Record<string, GgufValue>>) => refusal(() => source(changes));
    expect(await error({ 'tokenizer.ggml.model': 'rwkv' })).toMatchObject({
      reason: 'unsupported_format',
      message: expect.stringContaining('rwkv'),
    });
    expect(await error({ 'tokenizer.ggml.pre': 'mystery' })).toMatchObject({
      reason: 'unsupported_format',
      message: expect.stringContaining('smollm'),
    });
    expect((await error({ 'tokenizer.ggml.tokens': 7 })).message).toContain('tokenizer.ggml.tokens');
    expect((await error({ 'tokenizer.ggml.merges': [1, 2] })).message).toContain('tokenizer.ggml.merges');
    expect((await error({ 'tokenizer.ggml.token_type': [1] })).message).toContain('token_type');
  });
});
