/** Where a tokenizer comes from: Hugging Face's files beside a checkpoint, or GGUF metadata rebuilt in the same form. Plain JSON values. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fail } from '@causeway/errors';
import { z } from 'zod';
import type { GgufValue } from './gguf.ts';

/** Structured-clonable, so that it can be sent to a worker thread. */
export interface TokenizerSource {
  /** Contents of tokenizer.json. */
  tokenizer: Record<string, unknown>;
  /** Contents of tokenizer_config.json. */
  config: Record<string, unknown>;
  /** Jinja chat template. */
  chatTemplate: string | undefined;
}

const object = z.record(z.string(), z.unknown());

/** Reads tokenizer.json, tokenizer_config.json and chat_template.jinja of a directory; undefined without tokenizer.json. */
export function huggingFaceTokenizerSource(dir: string): TokenizerSource | undefined {
  const path = join(dir, 'tokenizer.json');
  if (!existsSync(path)) return undefined;
  const configPath = join(dir, 'tokenizer_config.json');
  const config = existsSync(configPath) ? readObject(configPath) : {};
  const templatePath = join(dir, 'chat_template.jinja');
  const inline = config.chat_template;
  const chatTemplate = existsSync(templatePath)
    ? readFileSync(templatePath, 'utf8')
    : typeof inline === 'string'
      ? inline
      : undefined;
  return { tokenizer: readObject(path), config, chatTemplate };
}

function readObject(path: string): Record<string, unknown> {
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(path, 'utf8'));
  } catch (cause) {
    fail('invalid_argument', 'malformed_file', `${path} is not readable JSON: ${(cause as Error).message}`, { cause });
  }
  const parsed = object.safeParse(json);
  return parsed.success ? parsed.data : fail('invalid_argument', 'malformed_file', `${path} is not a JSON object`);
}

/** ggml token types that become added tokens: control and user-defined. */
const CONTROL = 3;
const USER_DEFINED = 4;

const BYTE_LEVEL = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
const DIGITS = { type: 'Digits', individual_digits: true };
const split = (pattern: string) => ({
  type: 'Sequence',
  pretokenizers: [
    { type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false },
    { ...BYTE_LEVEL, use_regex: false },
  ],
});
/** Pre-tokenizers by GGUF's tokenizer.ggml.pre (llama.cpp, llama-vocab.cpp). */
const PRE_TOKENIZERS: Readonly<Record<string, unknown>> = {
  smollm: { type: 'Sequence', pretokenizers: [DIGITS, BYTE_LEVEL] },
  default: BYTE_LEVEL,
  'gpt-2': BYTE_LEVEL,
  'llama-bpe': split(
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
  ),
};

/**
 * Rebuilds a byte-level BPE tokenizer from GGUF metadata; undefined when the file has none.
 * @throws ServiceError `unsupported_format` for other tokenizer models or pre-tokenizers, `malformed_file` for bad lists.
 */
export function ggufTokenizerSource(metadata: ReadonlyMap<string, GgufValue>): TokenizerSource | undefined {
  const model = metadata.get('tokenizer.ggml.model');
  if (model === undefined) return undefined;
  if (model !== 'gpt2')
    fail(
      'unimplemented',
      'unsupported_format',
      `GGUF tokenizer model ${String(model)} is not supported; gpt2 (byte-level BPE) is`,
    );
  const pre = metadata.get('tokenizer.ggml.pre') ?? 'default';
  const preTokenizer = PRE_TOKENIZERS[String(pre)];
  if (preTokenizer === undefined) {
    fail(
      'unimplemented',
      'unsupported_format',
      `GGUF pre-tokenizer ${String(pre)} is not supported; supported: ${Object.keys(PRE_TOKENIZERS).join(', ')}`,
    );
  }
  const strings = (key: string): string[] => {
    const parsed = z.array(z.string()).safeParse(metadata.get(key));
    return parsed.success ? parsed.data : fail('invalid_argument', 'malformed_file', `${key} is not a list of strings`);
  };
  const tokens = strings('tokenizer.ggml.tokens');
  const types = z.array(z.number()).safeParse(metadata.get('tokenizer.ggml.token_type'));
  const kinds = types.success ? types.data : [];
  const added = tokens.flatMap((content, id) =>
    kinds[id] === CONTROL || kinds[id] === USER_DEFINED
      ? [{ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: kinds[id] === CONTROL }]
      : [],
  );
  const tokenOf = (key: string): string | undefined => {
    const id = metadata.get(key);
    return typeof id === 'number' ? tokens[id] : undefined;
  };
  const template = metadata.get('tokenizer.chat_template');
  const bos = tokenOf('tokenizer.ggml.bos_token_id');
  const eos = tokenOf('tokenizer.ggml.eos_token_id');
  return {
    tokenizer: {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: added,
      normalizer: null,
      pre_tokenizer: preTokenizer,
      post_processor: null,
      decoder: BYTE_LEVEL,
      model: {
        type: 'BPE',
        dropout: null,
        unk_token: null,
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: false,
        byte_fallback: false,
        vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
        merges: strings('tokenizer.ggml.merges'),
      },
    },
    config: { ...(bos === undefined ? {} : { bos_token: bos }), ...(eos === undefined ? {} : { eos_token: eos }) },
    chatTemplate: typeof template === 'string' ? template : undefined,
  };
}
