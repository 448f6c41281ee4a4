import { hash } from 'node:crypto';
import { fail } from '@causeway/errors';
import { Template } from '@huggingface/jinja';
import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import type { TokenizerSource } from './tokenizer-source.ts';

export interface ChatMessage {
  role: string;
  content: string;
}

/** Turns tokens into text as they come; never gives half a character. */
export interface DecodeStream {
  /** Text that this token completes, often empty. Special tokens give none. */
  push(id: number): string;
  /** What is left at the end; an incomplete character becomes U+FFFD. */
  flush(): string;
}

export interface Tokenizer {
  readonly vocabSize: number;
  /** SHA-256 of the tokenizer's definition, lower-case hex. */
  readonly hash: string;
  readonly hasChatTemplate: boolean;
  /** Token ids of a text, with the model's own leading tokens. About 2.5 µs a character: long texts belong in a TokenizerPool. */
  encode(text: string): number[];
  /** Token ids of messages rendered by the chat template, ready for the assistant's answer. */
  encodeChat(messages: readonly ChatMessage[]): number[];
  /** @throws ServiceError `bad_request` when there is no template or it refuses the messages. */
  renderChat(messages: readonly ChatMessage[]): string;
  decode(ids: readonly number[]): string;
  decodeStream(): DecodeStream;
}

const REPLACEMENT = '\u{fffd}';

/** Builds a tokenizer. @throws ServiceError `unsupported_format` when the definition can't be used. */
export function loadTokenizer(source: TokenizerSource): Tokenizer {
  let inner: HuggingFaceTokenizer;
  let template: Template | undefined;
  try {
    inner = new HuggingFaceTokenizer(source.tokenizer as never, source.config as never);
    template = source.chatTemplate === undefined ? undefined : new Template(source.chatTemplate);
  } catch (cause) {
    fail('invalid_argument', 'unsupported_format', `the tokenizer cannot be used: ${(cause as Error).message}`, { cause });
  }
  const specials = tokenStrings(source.config);
  const decode = (ids: readonly number[]): string =>
    ids.length === 0 ? '' : inner.decode([...ids], { skip_special_tokens: true, clean_up_tokenization_spaces: false });
  const renderChat = (messages: readonly ChatMessage[]): string => {
    if (template === undefined) {
      fail('invalid_argument', 'bad_request', 'this model has no chat template: use /v1/completions', { field: 'messages' });
    }
    try {
      return template.render({ ...specials, messages, add_generation_prompt: true });
    } catch (cause) {
      fail('invalid_argument', 'bad_request', `the chat template refuses these messages: ${(cause as Error).message}`, {
        field: 'messages',
        cause,
      });
    }
  };
  return {
    vocabSize: vocabSize(source),
    hash: hash('sha256', JSON.stringify([source.tokenizer, source.config, source.chatTemplate ?? null]), 'hex'),
    hasChatTemplate: template !== undefined,
    encode: (text) => inner.encode(text, { add_special_tokens: true }).ids,
    // The template writes the leading tokens itself.
    encodeChat: (messages) => inner.encode(renderChat(messages), { add_special_tokens: false }).ids,
    renderChat,
    decode,
    decodeStream: () => decodeStream(decode),
  };
}

/**
 * Decodes a window of tokens again with each new one and gives what grew: byte-level tokens may end inside a character, and some
 * tokenizers decode a token differently at the start of a text. The window moves on at every complete character.
 */
function decodeStream(decode: (ids: readonly number[]) => string): DecodeStream {
  /** Tokens decoded before, kept as context, then tokens whose text isn't given yet. */
  let context: number[] = [];
  let pending: number[] = [];
  return {
    push: (id) => {
      pending.push(id);
      const before = decode(context);
      const now = decode([...context, ...pending]);
      if (now.endsWith(REPLACEMENT) && pending.length < MAX_PENDING) return '';
      context = pending;
      pending = [];
      return now.slice(before.length);
    },
    flush: () => {
      if (pending.length === 0) return '';
      const text = decode([...context, ...pending]).slice(decode(context).length);
      context = [];
      pending = [];
      return text;
    },
  };
}

/** A UTF-8 character has at most 4 bytes: after so many tokens a replacement character is what the model wrote. */
const MAX_PENDING = 8;

function vocabSize(source: TokenizerSource): number {
  const model = source.tokenizer.model as { vocab?: unknown } | undefined;
  const vocab = model?.vocab;
  const base = Array.isArray(vocab) ? vocab.length : typeof vocab === 'object' && vocab !== null ? Object.keys(vocab).length : 0;
  const added = (Array.isArray(source.tokenizer.added_tokens) ? source.tokenizer.added_tokens : []) as { id?: unknown }[];
  return added.reduce((size, token) => (typeof token.id === 'number' ? Math.max(size, token.id + 1) : size), base);
}

/** bos_token, eos_token, ...: strings or {content}. */
function tokenStrings(config: Record<string, unknown>): Record<string, string> {
  const entries = Object.entries(config).flatMap(([key, value]) => {
    if (!key.endsWith('_token')) return [];
    if (typeof value === 'string') return [[key, value] as const];
    const content = (value as { content?: unknown } | null)?.content;
    return typeof content === 'string' ? [[key, content] as const] : [];
  });
  return Object.fromEntries(entries);
}
