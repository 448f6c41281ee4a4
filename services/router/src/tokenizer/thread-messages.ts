/** What the router's tokenizer threads are asked and answer. */
import type { ChatMessage } from '@causeway/openai';

export type TokenizeTask =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'chat'; readonly messages: readonly ChatMessage[] };

export type TokenizeResult =
  | { readonly kind: 'ids'; readonly ids: Uint32Array }
  | {
      readonly kind: 'error';
      readonly error: { code: string; reason: string; retry: string; message: string; field: string | undefined };
    };
