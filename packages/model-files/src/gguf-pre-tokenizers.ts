/**
 * Pre-tokenizers by the name that `tokenizer.ggml.pre` gives them (llama.cpp's llama-vocab.cpp), in the form of tokenizer.json. The
 * patterns are those of the models' own tokenizer.json; `default` is llama.cpp's for files whose converter knew none.
 */

export interface PreTokenizer {
  definition: unknown;
  normalizer?: unknown;
  /** A word that is a token is taken whole, before any merge. */
  ignoreMerges?: boolean;
  /** Used where the file does not say whether texts begin with the beginning-of-sequence token. */
  addsBos?: boolean;
}

/** Bytes as letters; split by GPT-2's pattern too. */
export const BYTE_LEVEL = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
const BYTES_ONLY = { ...BYTE_LEVEL, use_regex: false };

const sequence = (...pretokenizers: unknown[]): unknown => ({ type: 'Sequence', pretokenizers });
const split = (regex: string): unknown => ({ type: 'Split', pattern: { Regex: regex }, behavior: 'Isolated', invert: false });

const GPT_2 = split(String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`);

/** Contractions, words, digits in runs of `digits`, punctuation, spaces: GPT-4's pattern and its kin. */
const words = (digits: string): unknown =>
  split(
    String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|${digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
  );

const LLAMA_3: PreTokenizer = {
  definition: sequence(words(String.raw`\p{N}{1,3}`), BYTES_ONLY),
  ignoreMerges: true,
  addsBos: true,
};
/** Hugging Face composes characters first, llama.cpp doesn't; the models were trained on what Hugging Face does. */
const QWEN_2: PreTokenizer = { definition: sequence(words(String.raw`\p{N}`), BYTES_ONLY), normalizer: { type: 'NFC' } };

/** Letters with case that DeepSeek's pattern lists, as ranges of code points. */
const CASED = `
  41-5a 61-7a b5 c0-d6 d8-f6 f8-1ba 1bc-1bf 1c4-293 295-2af 370-373 376-377 37b-37d 37f 386 388-38a 38c 38e-3a1 3a3-3f5
  3f7-481 48a-52f 531-556 10a0-10c5 13a0-13f5 13f8-13fd 1c90-1cba 1cbd-1cbf 1d00-1d2b 1d6b-1d77 1d79-1d9a 1e00-1f15
  1f18-1f1d 1f20-1f45 1f48-1f4d 1f50-1f57 1f59 1f5b 1f5d 1f5f-1f7d 1f80-1fb4 1fb6-1fbc 1fbe 1fc2-1fc4 1fc6-1fcc
  1fd0-1fd3 1fd6-1fdb 1fe0-1fec 1ff2-1ff4 1ff6-1ffc 2102 2107 210a-2113 2115 2119-211d 2124 2126 2128 212a-212d
  212f-2134 2139 213c-213f 2145-2149 214e 2183-2184 2c00-2c7b 2c7e-2ce4 2ceb-2cee 2cf2-2cf3 a640-a66d a680-a69b
  a722-a76f a771-a787 a78b-a78e ab70-abbf fb00-fb06 fb13-fb17 ff21-ff3a ff41-ff5a 10400-1044f 104b0-104d3 104d8-104fb
  10c80-10cb2 10cc0-10cf2 118a0-118df 1e900-1e943`;

/** Ranges of code points, in hexadecimal, as a character class. */
function classOf(ranges: string): string {
  const parts = ranges.trim().split(/\s+/);
  const character = (code: string): string => String.fromCodePoint(Number.parseInt(code, 16));
  return `[${parts.map((range) => range.split('-').map(character).join('-')).join('')}]`;
}

export const PRE_TOKENIZERS: ReadonlyMap<string, PreTokenizer> = new Map<string, PreTokenizer>([
  ['gpt-2', { definition: BYTE_LEVEL }],
  ['smollm', { definition: sequence(split(String.raw`\p{N}`), BYTE_LEVEL) }],
  ['llama-bpe', LLAMA_3],
  ['llama-v3', LLAMA_3],
  ['llama3', LLAMA_3],
  ['qwen2', QWEN_2],
  ['deepseek-r1-qwen', QWEN_2],
  [
    'deepseek-llm',
    {
      definition: sequence(
        split('[\\r\\n]'),
        split(`\\s?${classOf(CASED)}+`),
        split('\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+'),
        split('\\s+$'),
        split('[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+'),
        split('\\p{N}+'),
        BYTES_ONLY,
      ),
    },
  ],
  [
    'deepseek-v3',
    {
      definition: sequence(
        split(String.raw`\p{N}{1,3}`),
        split('[一-龥\u3040-ゟ゠-ヿ]+'),
        split(
          '[!"#$%&\'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|' +
            String.raw`[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
        ),
        BYTES_ONLY,
      ),
    },
  ],
  [
    'default',
    {
      definition: sequence(
        split(String.raw`[\p{P}\$\+<=>\^~\|]+`),
        GPT_2,
        split(String.raw`\p{N}+`),
        split('[0-9][0-9][0-9]'),
        BYTES_ONLY,
      ),
    },
  ],
]);
