import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TINY_MOE } from './testing/scratch.ts';
import { maxTokenBytes } from './token-length.ts';
import { loadTokenizer } from './tokenizer.ts';
import { huggingFaceTokenizerSource, type TokenizerSource } from './tokenizer-source.ts';

const tiny = huggingFaceTokenizerSource(TINY_MOE)!;

function bpe(more: Record<string, unknown> = {}, model: Record<string, unknown> = {}): TokenizerSource {
  return {
    tokenizer: {
      normalizer: null,
      pre_tokenizer: { type: 'Sequence', pretokenizers: [{ type: 'Digits' }, { type: 'ByteLevel' }] },
      added_tokens: [{ id: 2, content: '<|é|>', lstrip: false, rstrip: false }],
      model: { type: 'BPE', vocab: { a: 0, Ġabc: 1 }, ...model },
      ...more,
    },
    config: {},
    chatTemplate: undefined,
  };
}

describe('maxTokenBytes', () => {
  it('is the length of the longest token, added ones in UTF-8', () => {
    expect(maxTokenBytes(bpe())).toBe(6);
    expect(maxTokenBytes(bpe({ added_tokens: [] }))).toBe(4);
    expect(maxTokenBytes(bpe({ added_tokens: [], normalizer: { type: 'NFC' } }))).toBe(12);
    expect(maxTokenBytes(bpe({ added_tokens: [], normalizer: { type: 'Sequence', normalizers: [] } }))).toBe(4);
  });

  it.each([
    ['another model', bpe({}, { type: 'Unigram' })],
    ['unknown characters that fuse', bpe({}, { fuse_unk: true })],
    ['a normalizer that may drop text', bpe({ normalizer: { type: 'Strip' } })],
    ['one within a sequence', bpe({ normalizer: { type: 'Sequence', normalizers: [{ type: 'NFC' }, { type: 'Replace' }] } })],
    ['no byte-level step', bpe({ pre_tokenizer: { type: 'Digits' } })],
    [
      'a split that removes',
      bpe({
        pre_tokenizer: { type: 'Sequence', pretokenizers: [{ type: 'Split', behavior: 'Removed' }, { type: 'ByteLevel' }] },
      }),
    ],
    [
      'an unknown step',
      bpe({ pre_tokenizer: { type: 'Sequence', pretokenizers: [{ type: 'Whitespace' }, { type: 'ByteLevel' }] } }),
    ],
    ['a token that swallows spaces', bpe({ added_tokens: [{ content: 'x', lstrip: true }] })],
  ])('does not exist with %s', (_what, source) => {
    expect(maxTokenBytes(source)).toBeUndefined();
  });

  it('bounds what the built-in tokenizer makes of any text', () => {
    const tokenizer = loadTokenizer(tiny);
    const most = maxTokenBytes(tiny) ?? 0;
    expect(most).toBeGreaterThan(3);
    expect(most).toBeLessThan(200);
    const text = fc.oneof(
      fc.string({ unit: 'grapheme', maxLength: 300 }),
      fc.constantFrom(' '.repeat(400), '\n'.repeat(400), 'the '.repeat(90)),
    );
    fc.assert(
      fc.property(text, (value) => {
        expect(tokenizer.encode(value).length).toBeGreaterThanOrEqual(tokenizer.leastTokens(Buffer.byteLength(value)));
      }),
      { numRuns: 200 },
    );
    expect(tokenizer.leastTokens(most * 10 + 1)).toBe(11);
  });

  it('is no bound where there is none', () => {
    expect(
      loadTokenizer({
        ...tiny,
        tokenizer: { ...tiny.tokenizer, normalizer: { type: 'Strip', strip_left: true, strip_right: true } },
      }).leastTokens(1e9),
    ).toBe(0);
  });
});
