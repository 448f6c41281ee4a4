/** Tokenizer and chat template of a checkpoint, on the calling thread. Long texts belong in a TokenizerPool. */
import { fail } from '@causeway/errors';
import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import {
  type ChatMessage,
  type ChatTemplate,
  compileChatTemplate,
  type RenderChat,
  type RenderOptions,
  specialTokenTexts,
} from './chat-template.ts';
import { createDecodeStream, type DecodeStream } from './decode-stream.ts';
import type { TemplateFacts } from './template-facts.ts';
import { tokenBytesOf } from './token-bytes.ts';
import { maxTokenBytes } from './token-length.ts';
import { tokenizerHash } from './tokenizer-hash.ts';
import type { TokenizerSource } from './tokenizer-source.ts';

export interface Tokenizer {
  /** Every id is below this. */
  readonly vocabSize: number;
  /** SHA-256 of what maps text to ids, lower-case hex. */
  readonly hash: string;
  readonly hasChatTemplate: boolean;
  /** Token ids of a text, with the model's own leading token (once). Up to 3 µs a byte. */
  encode(text: string): number[];
  /** Token ids of messages rendered by the chat template, ready for the assistant's answer. */
  encodeChat(messages: readonly ChatMessage[], options?: RenderOptions): number[];
  /** `encodeChat` in two steps: token ids of what `renderChat` gave. */
  encodeRendered(text: string): number[];
  /** Tokens that a text of so many bytes has at least; 0 when this tokenizer allows no such bound. Costs nothing. */
  leastTokens(bytes: number): number;
  /**
   * @throws ServiceError `bad_request` when there is no template, it refuses the messages or takes too long; `unsupported_parameter`
   * when it would leave tools or calls out.
   */
  renderChat: RenderChat;
  /** What the template does with tools; undefined without a template. The first time it is rendered for it. */
  templateFacts(): TemplateFacts | undefined;
  /** Text of tokens, special ones skipped. Ids outside the vocabulary give no text. */
  decode(ids: readonly number[]): string;
  /** The same with special tokens by name. */
  decodeAll(ids: readonly number[]): string;
  /** `spoken`: texts of special tokens that are given all the same, because somebody reads them. */
  decodeStream(spoken?: readonly string[]): DecodeStream;
  /** What a token stands for, special ones included; it may be part of a character. Undefined outside the vocabulary. */
  tokenBytes(id: number): Uint8Array | undefined;
  /** A token beside the vocabulary proper, such as `<|im_end|>`: text that is only text is never written with it. */
  isAdded(id: number): boolean;
}

/** Builds a tokenizer. @throws ServiceError `unsupported_format` when the definition can't be used. */
export function loadTokenizer(source: TokenizerSource): Tokenizer {
  const specials = specialTokenTexts(source.config);
  let inner: HuggingFaceTokenizer;
  let template: ChatTemplate;
  try {
    inner = new HuggingFaceTokenizer(source.tokenizer, source.config);
    template = compileChatTemplate({ main: source.chatTemplate, tools: source.toolTemplate }, specials);
  } catch (cause) {
    fail('invalid_argument', 'unsupported_format', `the tokenizer cannot be used: ${(cause as Error).message}`, { cause });
  }
  const silent = silentIds(source);
  const added = new Set(addedTokens(source).map(({ id }) => id));
  const isSilent = (id: number): boolean => silent.has(id) || inner.id_to_token(id) === undefined;
  const decode = singlesOnce((ids) => {
    const audible = ids.filter((id) => !isSilent(id));
    if (audible.length === 0) return '';
    return inner.decode(audible, { skip_special_tokens: true, clean_up_tokenization_spaces: false });
  });
  const decodeStream = (spoken: readonly string[] = []): DecodeStream => {
    const texts = new Set(spoken);
    const heard = new Set([...silent].filter((id) => texts.has(inner.id_to_token(id) ?? '')));
    if (heard.size === 0) return createDecodeStream(decode, isSilent);
    return createDecodeStream(decodeAll, (id) => isSilent(id) && !heard.has(id));
  };
  const decodeAll = singlesOnce((ids) => {
    const known = ids.filter((id) => inner.id_to_token(id) !== undefined);
    if (known.length === 0) return '';
    return inner.decode(known, { skip_special_tokens: false, clean_up_tokenization_spaces: false });
  });
  const encode = (text: string, add_special_tokens: boolean): number[] => {
    const { ids } = inner.encode(text, { add_special_tokens });
    if (ids.every(Number.isInteger)) return ids;
    return fail('invalid_argument', 'bad_request', 'the text has characters that this tokenizer has no token for');
  };
  const bos = inner.token_to_id(specials.bos_token ?? '');
  const tokenBytes = maxTokenBytes(source) ?? Number.POSITIVE_INFINITY;
  const addsBos = source.config.add_bos_token === true;
  return {
    vocabSize: vocabSize(source),
    hash: tokenizerHash(source),
    hasChatTemplate: source.chatTemplate !== undefined,
    encode: (text) => withOneBos(encode(text, true), bos, addsBos),
    // The template writes the leading tokens itself.
    encodeChat: (messages, options) => encode(template.render(messages, options), false),
    encodeRendered: (text) => encode(text, false),
    leastTokens: (bytes) => Math.ceil(bytes / tokenBytes),
    renderChat: template.render,
    templateFacts: () => template.facts(),
    decode,
    decodeAll,
    decodeStream,
    tokenBytes: tokenBytesOf(
      source,
      (id) => inner.id_to_token(id),
      (id) => decode([id]),
    ),
    isAdded: (id) => added.has(id),
  };
}

/** The same, but the text of a single token is made once: streams ask for it again with each of their tokens. At most the vocabulary is kept. */
function singlesOnce(decode: (ids: readonly number[]) => string): (ids: readonly number[]) => string {
  const singles = new Map<number, string>();
  return (ids) => {
    const [id] = ids;
    if (ids.length !== 1 || id === undefined) return decode(ids);
    let text = singles.get(id);
    if (text === undefined) singles.set(id, (text = decode(ids)));
    return text;
  };
}

/** A text may bring its own leading token, as rendered prompts do. */
function withOneBos(ids: number[], bos: number | undefined, addsBos: boolean): number[] {
  if (bos === undefined) return ids;
  if (ids[0] !== bos) return addsBos ? [bos, ...ids] : ids;
  return ids[1] === bos ? ids.slice(1) : ids;
}

function addedTokens(source: TokenizerSource): { id?: unknown; special?: unknown }[] {
  return Array.isArray(source.tokenizer.added_tokens)
    ? (source.tokenizer.added_tokens as { id?: unknown; special?: unknown }[])
    : [];
}

/** Special tokens: they steer, they are no text. */
function silentIds(source: TokenizerSource): ReadonlySet<number> {
  return new Set(addedTokens(source).flatMap(({ id, special }) => (special === true && typeof id === 'number' ? [id] : [])));
}

/** One more than the largest id. */
function vocabSize(source: TokenizerSource): number {
  const vocab = (source.tokenizer.model as { vocab?: unknown } | null | undefined)?.vocab;
  const ids: unknown[] = Array.isArray(vocab) ? [vocab.length - 1] : Object.values(vocab ?? {});
  return [...ids, ...addedTokens(source).map(({ id }) => id)].reduce<number>(
    (size, id) => (typeof id === 'number' && Number.isSafeInteger(id) ? Math.max(size, id + 1) : size),
    0,
  );
}
