/** A request for an answer or for token ids, whichever API it came by. */
import type { ChatMessage, GenerationOptions } from '@causeway/openai';

/** How a request's bytes are read: the bodies of the two HTTP endpoints, the messages of the two gRPC methods. */
export type RequestKind = 'chat' | 'completion' | 'generate' | 'tokenize';

export type PromptInput =
  | { readonly kind: 'chat'; readonly messages: readonly ChatMessage[] }
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'tokens'; readonly ids: readonly number[] };

/** What a request says beside its prompt, checked. Small, however large the request: it may cross threads. */
export interface RequestFields {
  readonly kind: RequestKind;
  /** Undefined: the only model served. */
  readonly model: string | undefined;
  /** Where the prompt stands, for refusals. */
  readonly promptField: string;
  readonly options: GenerationOptions;
}

/** A request whose form is right. Whether it can be served is another question: `checkRequest`. */
export interface ReadRequest {
  readonly fields: RequestFields;
  readonly prompt: PromptInput;
}
