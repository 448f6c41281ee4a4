/** A request for an answer or for token ids, whichever API it came by. */
import type { ChatMessage, GenerationOptions, OutputWish, TemplateInput } from '@causeway/openai';

/** How the bytes of a request for an answer are read: the bodies of two HTTP endpoints, a gRPC message. */
type AnswerKind = 'chat' | 'completion' | 'generate';

/** The same for requests about tokens: a gRPC message, the bodies of /tokenize and /detokenize. */
export type TokensKind = 'tokenize' | 'tokenize_http' | 'detokenize_http';

export type RequestKind = AnswerKind | TokensKind;

/** It generates nothing. */
export function isAboutTokens(kind: RequestKind): kind is TokensKind {
  return kind === 'tokenize' || kind === 'tokenize_http' || kind === 'detokenize_http';
}

/** `special`: with the tokenizer's own leading tokens; by default in a text, not in what a chat template wrote. */
export type PromptInput =
  | {
      readonly kind: 'chat';
      readonly messages: readonly ChatMessage[];
      readonly template?: TemplateInput;
      readonly special?: boolean;
    }
  | { readonly kind: 'text'; readonly text: string; readonly special?: boolean }
  | { readonly kind: 'tokens'; readonly ids: readonly number[] };

/** What a request says beside its prompt, checked. Small, however large the request: it may cross threads. */
export interface RequestFields {
  readonly kind: RequestKind;
  /** Undefined: the only model served. */
  readonly model: string | undefined;
  /** Where the prompt stands, for refusals. */
  readonly promptField: string;
  readonly options: GenerationOptions;
  /** Of a chat: what the answer may hold beside content. */
  readonly output?: OutputWish;
}

/** A request whose form is right. Whether it can be served is another question: `checkRequest`. */
export interface ReadRequest {
  readonly fields: RequestFields;
  /** At least one; several only of a completion. */
  readonly prompts: readonly PromptInput[];
}

/** Where prompt `index` of `count` stands in the request. */
export function promptField({ promptField: field }: RequestFields, index: number, count: number): string {
  return count === 1 ? field : `${field}[${index}]`;
}
