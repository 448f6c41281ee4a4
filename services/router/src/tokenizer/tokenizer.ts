import type { ChatMessage } from '@causeway/openai';
import type { RequestJob, RequestResult } from '../request/request-job.ts';

/** Turns tokens into text as they come; never half a character. */
export interface DecodeStream {
  push(id: number): string;
  flush(): string;
}

/** What the router needs of a tokenizer. */
export interface RouterTokenizer {
  /** Ids are below this. */
  readonly vocabSize: number;
  /** Long texts are encoded off the event loop. */
  encode(text: string, signal: AbortSignal): Promise<ArrayLike<number>>;
  /** Renders the chat template. @throws ServiceError `bad_request` when there is none or it refuses the messages. */
  encodeChat(messages: readonly ChatMessage[], signal: AbortSignal): Promise<ArrayLike<number>>;
  /** `doRequest` in a thread. The body's buffer is handed over. @throws ServiceError naming the field at fault. */
  request(job: RequestJob, signal: AbortSignal): Promise<RequestResult>;
  decodeStream(): DecodeStream;
  /** What a token stands for, special ones included; it may be part of a character. Undefined outside the vocabulary. */
  tokenBytes(id: number): Uint8Array | undefined;
}
