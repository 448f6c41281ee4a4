import { ServiceError } from '@causeway/errors';
import { EventSourceParserStream } from 'eventsource-parser/stream';
import { z } from 'zod';
import { callRouter, type RouterAddress } from './router-call.ts';

const report = z.object({
  outcome: z.string(),
  bytes_raw: z.number(),
  bytes_sent: z.number(),
  codec: z.string(),
  transfer_ms: z.number(),
  ttft_ms: z.number(),
  prefill_worker: z.string(),
  prefill_chip: z.string(),
  decode_worker: z.string(),
  decode_chip: z.string(),
  expert_calls: z.record(z.string(), z.number()).optional(),
});

const usage = z.object({ prompt_tokens: z.int(), completion_tokens: z.int(), causeway: report });

const delta = z.object({ content: z.string().nullish(), reasoning_content: z.string().nullish() });

const chunk = z.object({
  choices: z.array(z.object({ delta, finish_reason: z.string().nullish() })).default([]),
  usage: usage.nullish(),
  error: z.object({ message: z.string() }).optional(),
});

type KvReport = z.infer<typeof report>;

export interface Message {
  role: 'system' | 'user' | 'assistant';
  content: string;
}

/** A whole answer and how long it took, as seen from here. */
export interface Answer {
  text: string;
  finishReason: string;
  promptTokens: number;
  completionTokens: number;
  kv: KvReport;
  /** Request sent to first text. */
  ttftMs: number;
  /** First text to the end. */
  restMs: number;
}

export interface ChatCall extends RouterAddress {
  model: string;
  messages: readonly Message[];
  maxTokens?: number;
  temperature?: number;
  placement?: 'disaggregated' | 'local';
  signal: AbortSignal;
  onText: (text: string) => void;
  /** What a model thinks before it answers. */
  onReasoning: (text: string) => void;
}

/**
 * POST /v1/chat/completions, streamed.
 * @throws ServiceError with the server's own message, or `dependency_unavailable` when nobody answers; the signal's reason on abort
 */
export async function streamChat(call: ChatCall): Promise<Answer> {
  const began = performance.now();
  const response = await post(call);
  if (response.body === null) throw broken('the answer has no body');
  const events = response.body.pipeThrough(new TextDecoderStream()).pipeThrough(new EventSourceParserStream());
  let text = '';
  let firstAt: number | undefined;
  let finishReason: string | undefined;
  let counted: z.infer<typeof usage> | undefined;
  for await (const event of events) {
    if (event.data === '[DONE]') break;
    const part = parseChunk(event.data);
    if (part.error !== undefined) throw broken(part.error.message);
    const choice = part.choices[0];
    const reasoning = choice?.delta.reasoning_content ?? '';
    if (reasoning !== '') {
      firstAt ??= performance.now();
      call.onReasoning(reasoning);
    }
    const content = choice?.delta.content ?? '';
    if (content !== '') {
      firstAt ??= performance.now();
      text += content;
      call.onText(content);
    }
    finishReason = choice?.finish_reason ?? finishReason;
    counted = part.usage ?? counted;
  }
  const ended = performance.now();
  if (finishReason === undefined || counted === undefined) throw broken('the stream ended before the answer did');
  return {
    text,
    finishReason,
    promptTokens: counted.prompt_tokens,
    completionTokens: counted.completion_tokens,
    kv: counted.causeway,
    ttftMs: (firstAt ?? ended) - began,
    restMs: ended - (firstAt ?? ended),
  };
}

function post(call: ChatCall): Promise<Response> {
  const body = {
    model: call.model,
    messages: call.messages,
    stream: true,
    ...(call.maxTokens === undefined ? {} : { max_tokens: call.maxTokens }),
    ...(call.temperature === undefined ? {} : { temperature: call.temperature }),
    ...(call.placement === undefined ? {} : { causeway: { placement: call.placement } }),
  };
  return callRouter(call, '/v1/chat/completions', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
    signal: call.signal,
  });
}

function parseChunk(data: string): z.infer<typeof chunk> {
  try {
    return chunk.parse(JSON.parse(data));
  } catch (error) {
    throw broken(`the stream holds something else than an answer: ${data.slice(0, 200)}`, error);
  }
}

function broken(message: string, cause?: unknown): ServiceError {
  return new ServiceError(message, { code: 'unavailable', reason: 'internal', cause });
}
