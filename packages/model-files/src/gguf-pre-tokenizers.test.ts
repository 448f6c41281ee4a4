import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { PRE_TOKENIZERS } from './gguf-pre-tokenizers.ts';
import { ggufTokenizerSource } from './gguf-tokenizer.ts';
import { BYTE_LETTERS } from './testing/byte-tokenizer.ts';
import { loadTokenizer } from './tokenizer.ts';

/** Texts and the pieces, in byte letters, that Hugging Face's tokenizers cut them into: testing/pre-tokenizers.py. */
const table = JSON.parse(readFileSync(new URL('./testing/pre-tokenizers.json', import.meta.url), 'utf8')) as Record<
  string,
  [text: string, pieces: string[]][]
>;

/** A tokenizer that has a token for every piece, and takes a word that is one whole: what it gives shows where it cut. */
function pieceTokenizer(pre: string, pieces: Iterable<string>) {
  const tokens = [...new Set([...BYTE_LETTERS, ...pieces])];
  const source = ggufTokenizerSource(
    'x.gguf',
    new Map(
      Object.entries({
        'tokenizer.ggml.model': 'gpt2',
        'tokenizer.ggml.pre': pre,
        'tokenizer.ggml.tokens': tokens,
        'tokenizer.ggml.merges': [],
        'tokenizer.ggml.add_bos_token': false,
      }),
    ),
  )!;
  (source.tokenizer.model as { ignore_merges: boolean }).ignore_merges = true;
  const tokenizer = loadTokenizer(source);
  return (text: string): (string | undefined)[] => tokenizer.encode(text).map((id) => tokens[id]);
}

describe.each(Object.entries(table))('the pre-tokenizer %s', (pre, cases) => {
  const cut = pieceTokenizer(
    pre,
    cases.flatMap(([, pieces]) => pieces),
  );
  it.each(cases)('cuts %j as Hugging Face does', (text, pieces) => {
    expect(cut(text)).toEqual(pieces);
  });
});

describe('PRE_TOKENIZERS', () => {
  it('has pieces for every definition', () => {
    const shown = new Set(Object.keys(table).map((name) => PRE_TOKENIZERS.get(name)));
    expect([...PRE_TOKENIZERS.values()].filter((one) => !shown.has(one))).toEqual([]);
  });
});
