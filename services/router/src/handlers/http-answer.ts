import { ServiceError } from '@causeway/errors';
import {
  answerBody,
  type AnswerForm,
  type AnswerHead,
  type GenerationOptions,
  kvHeader,
  parseChatRequest,
  parseCompletionRequest,
  streamEvents,
} from '@causeway/openai';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { httpError } from '../http/errors.ts';
import { streamWriter } from '../http/stream-writer.ts';
import type { GenerateInput, PromptInput } from '../prompt.ts';
import type { RequestContext } from '../request-context.ts';
import type { RouterParts } from '../router-parts.ts';
import { serve, type ServedEvent } from './serve.ts';

/** A validated HTTP request. */
export interface HttpInput {
  readonly form: AnswerForm;
  readonly model: string;
  readonly options: GenerationOptions;
  readonly input: GenerateInput;
}

/** POST /v1/chat/completions. @throws ServiceError naming the field at fault. */
export function chatInput(body: unknown): HttpInput {
  const { model, messages, options } = parseChatRequest(body);
  return { form: 'chat', model, options, input: generateInput(model, { kind: 'chat', messages }, options) };
}

/** POST /v1/completions. @throws ServiceError naming the field at fault. */
export function completionInput(body: unknown): HttpInput {
  const { model, prompt, options } = parseCompletionRequest(body);
  return { form: 'completion', model, options, input: generateInput(model, prompt, options) };
}

function generateInput(model: string, prompt: PromptInput, options: GenerationOptions): GenerateInput {
  const { maxTokens, temperature, topP, topK, seed, stop, placement } = options;
  return { model, prompt, maxTokens, temperature, topP, topK, seed, stop, placement };
}

/** Answers one request, whole or streamed. Errors before the first byte are thrown, later ones are an event of the stream. */
export async function answerHttp(
  ctx: RequestContext,
  request: FastifyRequest,
  reply: FastifyReply,
  http: HttpInput,
  router: RouterParts,
): Promise<void> {
  const head: AnswerHead = {
    id: `${http.form === 'chat' ? 'chatcmpl' : 'cmpl'}-${request.id}`,
    created: Math.floor(Date.now() / 1000),
    model: http.model,
  };
  const events = serve(ctx, http.input, router);
  if (http.options.stream) await streamed(ctx, reply, http, head, events);
  else await whole(reply, http.form, head, events);
}

async function whole(reply: FastifyReply, form: AnswerForm, head: AnswerHead, events: AsyncIterable<ServedEvent>): Promise<void> {
  let text = '';
  for await (const event of events) {
    if (event.kind === 'piece') {
      text += event.piece.text;
      continue;
    }
    void reply.header('x-causeway-kv', kvHeader(event.usage.causeway));
    await reply.send(answerBody(form, head, text, event.reason, event.usage));
  }
}

async function streamed(
  ctx: RequestContext,
  reply: FastifyReply,
  http: HttpInput,
  head: AnswerHead,
  events: AsyncGenerator<ServedEvent, void>,
): Promise<void> {
  const sse = streamEvents(http.form, head, http.options.includeUsage);
  // Nothing is written before the first piece: until then a failure has its own HTTP status.
  let next = await events.next();
  reply.hijack();
  const response = reply.raw;
  response.writeHead(200, {
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-cache',
    'x-accel-buffering': 'no',
    'x-causeway-request-id': ctx.id,
  });
  const writer = streamWriter(response, ctx.signal);
  try {
    await writer.write(sse.start());
    for (; next.done !== true; next = await events.next()) {
      const event = next.value;
      if (event.kind === 'piece') {
        if (event.piece.text !== '') await writer.write(sse.text(event.piece.text));
        continue;
      }
      await writer.write(sse.finish(event.reason, event.usage));
      if (http.options.includeUsage) await writer.write(sse.usage(event.usage));
      await writer.write(sse.done());
    }
  } catch (thrown) {
    if (!response.destroyed) response.write(sse.error(httpError(ServiceError.from(thrown)).body));
  } finally {
    await events.return();
    writer.end();
  }
}
