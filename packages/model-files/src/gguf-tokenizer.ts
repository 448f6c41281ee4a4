/** A tokenizer from GGUF metadata, in the form of tokenizer.json: byte-level BPE or SentencePiece. */
import { fail } from '@causeway/errors';
import { z } from 'zod';
import { BYTE_LEVEL, PRE_TOKENIZERS } from './gguf-pre-tokenizers.ts';
import { sentencePieceDefinition } from './gguf-sentencepiece.ts';
import type { GgufValue } from './gguf-reader.ts';
import type { TokenizerSource } from './tokenizer-source.ts';

/** ggml token types that become added tokens: control and user-defined (llama.cpp, llama_token_type). */
const UNKNOWN = 2;
const CONTROL = 3;
const USER_DEFINED = 4;

const stringList = z.array(z.string());
const numberList = z.array(z.number());

/**
 * Rebuilds a tokenizer; undefined when the file has none.
 * @throws ServiceError `unsupported_format` for other tokenizer models or pre-tokenizers, `malformed_file` for bad lists.
 */
export function ggufTokenizerSource(path: string, metadata: ReadonlyMap<string, GgufValue>): TokenizerSource | undefined {
  const model = metadata.get('tokenizer.ggml.model');
  if (model === undefined) return undefined;
  const tokens = strings(path, metadata, 'tokenizer.ggml.tokens');
  const types = tokenTypes(path, metadata, tokens);
  const template = metadata.get('tokenizer.chat_template');
  const toolTemplate = metadata.get('tokenizer.chat_template.tool_use');
  const { addsBos, added, ...definition } =
    model === 'gpt2'
      ? byteLevel(path, metadata, tokens)
      : model === 'llama'
        ? sentencePiece(path, metadata, tokens, types)
        : refuse(path, 'tokenizer model', model, 'gpt2 (byte-level BPE) and llama (SentencePiece) are');
  return {
    tokenizer: {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: addedTokens(tokens, types, added),
      ...definition,
    },
    config: {
      ...tokenByName(metadata, tokens, 'bos'),
      ...tokenByName(metadata, tokens, 'eos'),
      add_bos_token: metadata.get('tokenizer.ggml.add_bos_token') ?? addsBos,
    },
    chatTemplate: typeof template === 'string' ? template : undefined,
    ...(typeof toolTemplate === 'string' ? { toolTemplate } : {}),
  };
}

interface Definition {
  normalizer: unknown;
  pre_tokenizer: unknown;
  post_processor: null;
  decoder: unknown;
  model: Record<string, unknown>;
  /** Where the file does not say it. */
  addsBos: boolean;
  /** Token types that become added tokens. */
  added: readonly number[];
}

function byteLevel(path: string, metadata: ReadonlyMap<string, GgufValue>, tokens: readonly string[]): Definition {
  const pre = metadata.get('tokenizer.ggml.pre') ?? 'none';
  const preTokenizer =
    PRE_TOKENIZERS.get(String(pre)) ?? refuse(path, 'pre-tokenizer', pre, `supported: ${[...PRE_TOKENIZERS.keys()].join(', ')}`);
  return {
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
      merges: mergesOf(path, metadata, tokens),
    },
    addsBos: preTokenizer.addsBos ?? false,
    added: [CONTROL, USER_DEFINED],
  };
}

/** Pairs of tokens that make a token: of others an encoding would lose its text. */
function mergesOf(path: string, metadata: ReadonlyMap<string, GgufValue>, tokens: readonly string[]): string[] {
  const merges = strings(path, metadata, 'tokenizer.ggml.merges');
  const known = new Set(tokens);
  const bad = merges.findIndex((merge) => {
    const [left = '', right = '', ...more] = merge.split(' ');
    return left === '' || right === '' || more.length > 0 || !known.has(left) || !known.has(right) || !known.has(left + right);
  });
  if (bad === -1) return merges;
  const what = `merge ${bad} is ${JSON.stringify(merges[bad]?.slice(0, 80))}, which is not two tokens that make a third`;
  return fail('invalid_argument', 'malformed_file', `${path}: tokenizer.ggml.merges: ${what}`);
}

function sentencePiece(
  path: string,
  metadata: ReadonlyMap<string, GgufValue>,
  tokens: readonly string[],
  types: readonly unknown[],
): Definition {
  const scores = numberList.safeParse(metadata.get('tokenizer.ggml.scores'));
  if (!scores.success || scores.data.length !== tokens.length)
    fail('invalid_argument', 'malformed_file', `${path}: tokenizer.ggml.scores is not a list of ${tokens.length} numbers`);
  const unknown = metadata.get('tokenizer.ggml.unknown_token_id') ?? 0;
  return {
    ...sentencePieceDefinition({
      tokens,
      types,
      scores: scores.data,
      unknownId: Number(unknown),
      spacePrefix: metadata.get('tokenizer.ggml.add_space_prefix') !== false,
    }),
    post_processor: null,
    addsBos: true,
    added: [UNKNOWN, CONTROL, USER_DEFINED],
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

/** Empty when the file has none. */
function tokenTypes(path: string, metadata: ReadonlyMap<string, GgufValue>, tokens: readonly string[]): readonly GgufValue[] {
  const types = metadata.get('tokenizer.ggml.token_type') ?? [];
  if (Array.isArray(types) && (types.length === 0 || types.length === tokens.length)) return types;
  return fail('invalid_argument', 'malformed_file', `${path}: tokenizer.ggml.token_type is not a list of ${tokens.length} types`);
}

function addedTokens(tokens: readonly string[], types: readonly GgufValue[], added: readonly number[]): unknown[] {
  return tokens.flatMap((content, id) => {
    const type = added.find((one) => one === types[id]);
    if (type === undefined) return [];
    return [{ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: type !== USER_DEFINED }];
  });
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
