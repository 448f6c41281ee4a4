import { describe, expect, it } from 'vitest';
import { ggufTokenizerSource } from './gguf-tokenizer.ts';
import type { GgufValue } from './gguf-reader.ts';
import { refusal } from './testing/scratch.ts';
import { loadTokenizer } from './tokenizer.ts';

/** Pieces by rising id with their scores; the bytes come first, as in Llama's own. */
const PIECES: readonly (readonly [piece: string, score: number])[] = [
  ['▁', -100],
  ['a', -101],
  ['b', -102],
  ['c', -103],
  ['▁a', -1],
  ['bc', -2],
  ['ab', -3],
  ['▁▁', -90],
  ['▁abc', -4],
  ['é', -104],
];
const BYTES = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`);
const TOKENS = ['<unk>', '<s>', '</s>', ...BYTES, ...PIECES.map(([piece]) => piece), '<tool>'];
const id = (piece: string): number => TOKENS.indexOf(piece);
const byte = (value: number): number => 3 + value;

function metadata(changes: Readonly<Record<string, GgufValue>> = {}): Map<string, GgufValue> {
  return new Map<string, GgufValue>([
    ['tokenizer.ggml.model', 'llama'],
    ['tokenizer.ggml.tokens', TOKENS],
    ['tokenizer.ggml.scores', [0, 0, 0, ...BYTES.map(() => 0), ...PIECES.map(([, score]) => score), 0]],
    ['tokenizer.ggml.token_type', [2, 3, 3, ...BYTES.map(() => 6), ...PIECES.map(() => 1), 4]],
    ['tokenizer.ggml.bos_token_id', 1],
    ['tokenizer.ggml.eos_token_id', 2],
    ...Object.entries(changes),
  ]);
}
const source = (changes?: Readonly<Record<string, GgufValue>>) => ggufTokenizerSource('x.gguf', metadata(changes))!;
const load = (changes?: Readonly<Record<string, GgufValue>>) => loadTokenizer(source(changes));
const encode = (text: string): number[] => load({ 'tokenizer.ggml.add_bos_token': false }).encode(text);

describe('a SentencePiece tokenizer from GGUF metadata', () => {
  it('merges what gives the best score first, with a space before the text', () => {
    expect(encode('abc')).toEqual([id('▁abc')]);
    expect(encode('ab')).toEqual([id('▁a'), id('b')]);
    expect(encode('bab')).toEqual([id('▁'), id('b'), id('ab')]);
    expect(encode('a  a')).toEqual([id('▁a'), id('▁'), id('▁a')]);
  });

  it('takes what has no token byte by byte, and gives it back whole', () => {
    expect(encode('é')).toEqual([id('▁'), id('é')]);
    expect(encode('a🙂')).toEqual([id('▁a'), byte(0xf0), byte(0x9f), byte(0x99), byte(0x82)]);
    const tokenizer = load();
    const ids = tokenizer.encode('a🙂 b\n');
    expect(tokenizer.decode(ids)).toBe('a🙂 b\n');
    const stream = tokenizer.decodeStream();
    const pieces = ids.map((token) => stream.push(token));
    expect(pieces.filter((piece) => piece.includes('\u{fffd}'))).toEqual([]);
    expect(pieces.join('') + stream.flush()).toBe('a🙂 b\n');
  });

  it('begins texts with the beginning-of-sequence token unless the file says no', () => {
    expect(load().encode('a')).toEqual([1, id('▁a')]);
    expect(encode('a')).toEqual([id('▁a')]);
  });

  it('puts no space before texts where the file says so', () => {
    const tokenizer = load({ 'tokenizer.ggml.add_space_prefix': false, 'tokenizer.ggml.add_bos_token': false });
    expect(tokenizer.encode('ab a')).toEqual([id('ab'), id('▁a')]);
    expect(tokenizer.decode([id('▁a')])).toBe(' a');
  });

  it('takes control, unknown and user-defined tokens whole; user-defined ones are text', () => {
    expect(encode('a</s>b<tool>')).toEqual([id('▁a'), 2, id('▁'), id('b'), id('<tool>')]);
    expect(load().decode([id('▁a'), 2, id('<tool>')])).toBe('a<tool>');
  });

  it('refuses scores that are no list of as many numbers', async () => {
    for (const scores of [7, [1], ['x']]) {
      const error = await refusal(() => source({ 'tokenizer.ggml.scores': scores }));
      expect([error.reason, error.message]).toEqual(['malformed_file', expect.stringContaining('tokenizer.ggml.scores')]);
    }
  });

  it('spends no time on pieces of a length that SentencePiece never makes', () => {
    const tokens = [...TOKENS.slice(0, -1), 'a'.repeat(4_000_000)];
    const { model } = source({ 'tokenizer.ggml.tokens': tokens, 'tokenizer.ggml.token_type': tokens.map(() => 1) }).tokenizer;
    const { merges } = model as { merges: unknown };
    expect(merges).toEqual([
      ['▁', 'a'],
      ['b', 'c'],
      ['a', 'b'],
      ['▁a', 'bc'],
      ['▁', '▁'],
    ]);
  });
});
