import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createDecodeStream } from './decode-stream.ts';
import { ggufTokenizerSource } from './gguf-tokenizer.ts';
import { byteTokenizerMetadata, EOS, USER_DEFINED } from './testing/byte-tokenizer.ts';
import { TINY_MOE } from './testing/scratch.ts';
import { loadTokenizer, type Tokenizer } from './tokenizer.ts';
import { huggingFaceTokenizerSource } from './tokenizer-source.ts';

const bytes = loadTokenizer(ggufTokenizerSource('x.gguf', byteTokenizerMetadata())!);
const tinyMoe = loadTokenizer(huggingFaceTokenizerSource(TINY_MOE)!);

function pieces(tokenizer: Tokenizer, ids: readonly number[]): string[] {
  const stream = tokenizer.decodeStream();
  return [...ids.map((id) => stream.push(id)), stream.flush()];
}

describe('decodeStream', () => {
  it('holds the bytes of a character back until it is whole', () => {
    expect(pieces(bytes, [...Buffer.from('a😀é!')])).toEqual(['a', '', '', '', '😀', '', 'é', '!', '']);
  });

  it('gives an unfinished character as a replacement at the end only', () => {
    expect(pieces(bytes, [...Buffer.from('a😀')].slice(0, 3))).toEqual(['a', '', '', '\u{fffd}']);
  });

  it('gives what was held back when the next byte shows that it was no character', () => {
    expect(pieces(bytes, [0xf0, 0x9f, 0x41])).toEqual(['', '', '\u{fffd}A', '']);
  });

  it('goes on behind a special token in the middle of a character', () => {
    const [a, b, c] = [...Buffer.from('€')] as [number, number, number];
    expect(pieces(bytes, [a, EOS, b, EOS, EOS, c])).toEqual(['', '', '', '', '', '€', '']);
    expect(pieces(bytes, [a, USER_DEFINED, 65])).toEqual(['', '\u{fffd}<tool>', 'A', '']);
  });

  it('skips ids that are in no vocabulary', () => {
    expect(pieces(bytes, [65, 999_999, -1, 1.5, Number.NaN, 66])).toEqual(['A', '', '', '', '', 'B', '']);
  });

  it('can be used again after flush', () => {
    const stream = bytes.decodeStream();
    stream.push(0xe2);
    expect([stream.flush(), stream.flush(), stream.push(65)]).toEqual(['\u{fffd}', '', 'A']);
  });

  it.each([
    ['any bytes', bytes, fc.nat(bytes.vocabSize - 1)],
    ['bytes above 127', bytes, fc.integer({ min: 0x80, max: 0xff })],
    ['first and later bytes', bytes, fc.constantFrom(0xf0, 0x9f, 0x98, 0x80, 0xe2, 0x82, 0xac, EOS, 65)],
    ['tokens of tiny-moe', tinyMoe, fc.nat(tinyMoe.vocabSize - 1)],
  ])('gives %s as decoding them at once does', (_, tokenizer, id) => {
    fc.assert(
      fc.property(fc.array(id, { maxLength: 60 }), (ids) => {
        const found = pieces(tokenizer, ids);
        expect(found.join('')).toBe(tokenizer.decode(ids));
        // Only a flush may end in the middle of a character.
        for (let i = 0, text = ''; i < ids.length; i++) {
          text += found[i];
          expect(tokenizer.decode(ids).startsWith(text)).toBe(true);
        }
      }),
      { numRuns: 400 },
    );
  });

  it('gives every text back whole', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 80 }), (text) => {
        for (const tokenizer of [bytes, tinyMoe])
          expect(pieces(tokenizer, tokenizer.encode(text)).join('')).toBe(text.toWellFormed());
      }),
      { numRuns: 200 },
    );
  });

  it('never decodes more than a short window, whatever the tokens', () => {
    let longest = 0;
    const decode = (ids: readonly number[]): string => {
      longest = Math.max(longest, ids.length);
      return bytes.decode(ids);
    };
    for (const garbage of [[0x80], [0xe2, 0x82], [0xf0, 0x9f, 0x98], [0xf0], [EOS], [0xe2, EOS]]) {
      const stream = createDecodeStream(decode, (id) => id === EOS);
      for (let i = 0; i < 500; i++) for (const id of garbage) stream.push(id);
    }
    expect(longest).toBeLessThan(40);
  });

  it('keeps the spaces of decoders that strip the first one', () => {
    const words = ['▁Hello', '▁wide', '▁world', '!'];
    const decode = (ids: readonly number[]): string =>
      ids
        .map((id) => words[id])
        .join('')
        .replaceAll('▁', ' ')
        .replace(/^ /, '');
    const stream = createDecodeStream(decode, () => false);
    expect([0, 1, 2, 3, 0].map((id) => stream.push(id))).toEqual(['Hello', ' wide', ' world', '!', ' Hello']);
  });
});

describe('special tokens that somebody reads', () => {
  const { tokenizer: definition, ...rest } = huggingFaceTokenizerSource(TINY_MOE)!;
  const added = definition.added_tokens as object[];
  const mark = (id: number, content: string) => ({ ...added[0], id, content, special: true });
  const marked = loadTokenizer({
    ...rest,
    tokenizer: { ...definition, added_tokens: [...added, mark(2048, '<｜tool▁sep｜>'), mark(2049, '<|other|>')] },
  });

  it('are given by name, in their place, the others not', () => {
    const euro = marked.encode('a €');
    const ids = [...euro, 2048, ...marked.encode(' b'), 2, 2049, 2048];
    const read = (spoken?: readonly string[]) => {
      const stream = marked.decodeStream(spoken);
      return ids.map((id) => stream.push(id)).join('') + stream.flush();
    };
    expect(read()).toBe('a € b');
    expect(read(['<｜tool▁sep｜>', '<|nothing|>'])).toBe('a €<｜tool▁sep｜> b<｜tool▁sep｜>');
  });
});
