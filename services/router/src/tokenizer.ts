import type { ChatMessage } from '@causeway/openai';

/** Turns tokens into text as they come; never half a character. */
export interface DecodeStream {
  push(id: number): string;
  flush(): string;
}

/** What the router needs of a tokenizer. Encoding runs off the event loop. */
export interface RouterTokenizer {
  /** Ids are below this. */
  readonly vocabSize: number;
  encode(text: string, signal: AbortSignal): Promise<readonly number[]>;
  /** Renders the chat template. @throws ServiceError `bad_request` when there is none or it refuses the messages. */
  encodeChat(messages: readonly ChatMessage[], signal: AbortSignal): Promise<readonly number[]>;
  decodeStream(): DecodeStream;
}
