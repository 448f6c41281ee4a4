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

export const PRE_TOKENIZERS: ReadonlyMap<string, PreTokenizer> = new Map<string, PreTokenizer>([
  ['gpt-2', { definition: BYTE_LEVEL }],
  ['smollm', { definition: sequence(split(String.raw`\p{N}`), BYTE_LEVEL) }],
  ['llama-bpe', LLAMA_3],
  ['llama-v3', LLAMA_3],
  ['llama3', LLAMA_3],
  ['qwen2', QWEN_2],
  ['deepseek-r1-qwen', QWEN_2],
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
