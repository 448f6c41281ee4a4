import type { ChatMessage, RenderOptions, TemplateFacts } from '@causeway/model-files';
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
  /** Renders the chat template. @throws ServiceError `bad_request` when there is none or it refuses the messages; `unsupported_parameter`. */
  encodeChat(messages: readonly ChatMessage[], options: RenderOptions, signal: AbortSignal): Promise<ArrayLike<number>>;
  /** `doRequest` in a thread. The body's buffer is handed over. @throws ServiceError naming the field at fault. */
  request(job: RequestJob, signal: AbortSignal): Promise<RequestResult>;
  /** `spoken`: texts of special tokens that are given all the same. */
  decodeStream(spoken?: readonly string[]): DecodeStream;
  /** Text of tokens, special ones by name. */
  decodeAll(ids: readonly number[]): string;
  /** What the chat template does with tools; undefined without one. */
  templateFacts(): TemplateFacts | undefined;
  /** What a token stands for, special ones included; it may be part of a character. Undefined outside the vocabulary. */
  tokenBytes(id: number): Uint8Array | undefined;
}
