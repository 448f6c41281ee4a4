/** A byte-level BPE tokenizer from GGUF metadata, in the form of tokenizer.json. */
import { fail } from '@causeway/errors';
import { z } from 'zod';
import { BYTE_LEVEL, PRE_TOKENIZERS } from './gguf-pre-tokenizers.ts';
import type { GgufValue } from './gguf-reader.ts';
import type { TokenizerSource } from './tokenizer-source.ts';

/** ggml token types that become added tokens: control and user-defined (llama.cpp, llama_token_type). */
const CONTROL = 3;
const USER_DEFINED = 4;

const stringList = z.array(z.string());

/**
 * Rebuilds a tokenizer; undefined when the file has none.
 * @throws ServiceError `unsupported_format` for other tokenizer models or pre-tokenizers, `malformed_file` for bad lists.
 */
export function ggufTokenizerSource(path: string, metadata: ReadonlyMap<string, GgufValue>): TokenizerSource | undefined {
  const model = metadata.get('tokenizer.ggml.model');
  if (model === undefined) return undefined;
  if (model !== 'gpt2') refuse(path, 'tokenizer model', model, 'gpt2 (byte-level BPE) is');
  const pre = metadata.get('tokenizer.ggml.pre') ?? 'none';
  const preTokenizer =
    PRE_TOKENIZERS.get(String(pre)) ?? refuse(path, 'pre-tokenizer', pre, `supported: ${[...PRE_TOKENIZERS.keys()].join(', ')}`);
  const tokens = strings(path, metadata, 'tokenizer.ggml.tokens');
  const merges = strings(path, metadata, 'tokenizer.ggml.merges');
  const template = metadata.get('tokenizer.chat_template');
  return {
    tokenizer: {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: addedTokens(path, metadata, tokens),
      normalizer: preTokenizer.normalizer ?? null,
      pre_tokenizer: preTokenizer.definition,
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
        ignore_merges: preTokenizer.ignoreMerges ?? false,
        vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
        merges,
      },
    },
    config: {
      ...tokenByName(metadata, tokens, 'bos'),
      ...tokenByName(metadata, tokens, 'eos'),
      add_bos_token: metadata.get('tokenizer.ggml.add_bos_token') ?? preTokenizer.addsBos ?? false,
    },
    chatTemplate: typeof template === 'string' ? template : undefined,
  };
}

function refuse(path: string, what: string, value: GgufValue, supported: string): never {
  return fail(
    'unimplemented',
    'unsupported_format',
    `${path}: the GGUF ${what} ${String(value).slice(0, 40)} is not supported; ${supported}`,
  );
}

function strings(path: string, metadata: ReadonlyMap<string, GgufValue>, key: string): string[] {
  const parsed = stringList.safeParse(metadata.get(key));
  return parsed.success ? parsed.data : fail('invalid_argument', 'malformed_file', `${path}: ${key} is not a list of strings`);
}

function addedTokens(path: string, metadata: ReadonlyMap<string, GgufValue>, tokens: readonly string[]): unknown[] {
  const types = metadata.get('tokenizer.ggml.token_type') ?? [];
  if (!Array.isArray(types) || (types.length !== 0 && types.length !== tokens.length))
    fail('invalid_argument', 'malformed_file', `${path}: tokenizer.ggml.token_type is not a list of ${tokens.length} types`);
  return tokens.flatMap((content, id) =>
    types[id] === CONTROL || types[id] === USER_DEFINED
      ? [{ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: types[id] === CONTROL }]
      : [],
  );
}

function tokenByName(
  metadata: ReadonlyMap<string, GgufValue>,
  tokens: readonly string[],
  name: 'bos' | 'eos',
): Record<string, string> {
  const id = metadata.get(`tokenizer.ggml.${name}_token_id`);
  const token = typeof id === 'number' ? tokens[id] : undefined;
  return token === undefined ? {} : { [`${name}_token`]: token };
}
