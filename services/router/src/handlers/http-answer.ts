import { ServiceError } from '@causeway/errors';
import {
  type AnswerForm,
  type AnswerHead,
  answerJson,
  AnswerMessage,
  AnswerLogprobs,
  chunkLogprobs,
  kvHeader,
  streamEvents,
  type TokenLogprob,
} from '@causeway/openai';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { AnswerPiece } from '../answer/answer.ts';
import { pieceLogprobs } from '../answer/piece-logprobs.ts';
import { httpError } from '../http/errors.ts';
import { streamWriter } from '../http/stream-writer.ts';
import type { RequestContext } from '../request-context.ts';
import type { RouterParts } from '../router-parts.ts';
import { serve, type ServedEvent } from './serve.ts';

/** Answers one request, whole or streamed. Errors before the first byte are thrown, later ones are an event of the stream. */
export async function answerHttp(
  ctx: RequestContext,
  request: FastifyRequest,
  reply: FastifyReply,
  form: AnswerForm,
  router: RouterParts,
): Promise<void> {
  const events = serve(ctx, { kind: form, body: bodyOf(request) }, router);
  const accepted = await events.next();
  if (accepted.done === true || accepted.value.kind !== 'accepted') return;
  const { model, options } = accepted.value.fields;
  const head: AnswerHead = {
    id: `${form === 'chat' ? 'chatcmpl' : 'cmpl'}-${request.id}`,
    created: Math.floor(Date.now() / 1000),
    model: model ?? router.model,
  };
  const { stream, includeUsage, logprobs } = options;
  const named = (piece: AnswerPiece): TokenLogprob => pieceLogprobs(piece, router.tokenizer);
  const wanted: AnswerStyle = { form, head, includeUsage, ...(logprobs === undefined ? {} : { logprobs: named }) };
  await (stream ? streamed(ctx, reply, wanted, events) : whole(reply, wanted, events));
}

/** How an answer is written. */
interface AnswerStyle {
  readonly form: AnswerForm;
  readonly head: AnswerHead;
  readonly includeUsage: boolean;
  /** Set when log-probabilities are wanted. */
  readonly logprobs?: (piece: AnswerPiece) => TokenLogprob;
}

/** The bytes of the body; none at all is an empty one. */
export function bodyOf(request: FastifyRequest): Uint8Array {
  return request.body instanceof Uint8Array ? request.body : new Uint8Array(0);
}

async function whole(
  reply: FastifyReply,
  { form, head, logprobs }: AnswerStyle,
  events: AsyncIterable<ServedEvent>,
): Promise<void> {
  let text = '';
  /** Where the answer's parts are told apart. */
  let message: AnswerMessage | undefined;
  const entries = new AnswerLogprobs(form);
  for await (const event of events) {
    if (event.kind === 'piece') {
      const { piece } = event;
      if (piece.parts === undefined) text += piece.text;
      else (message ??= new AnswerMessage()).add(piece.parts);
      if (logprobs !== undefined) entries.add(logprobs(piece));
    }
    if (event.kind !== 'finished') continue;
    void reply.header('x-causeway-kv', kvHeader(event.usage.causeway));
    void reply.header('content-type', 'application/json; charset=utf-8');
    await reply.send(
      answerJson(form, head, message ?? text, event.reason, event.usage, logprobs === undefined ? null : entries.toJson()),
    );
  }
}

async function streamed(
  ctx: RequestContext,
  reply: FastifyReply,
  { form, head, includeUsage, logprobs }: AnswerStyle,
  events: AsyncGenerator<ServedEvent, void>,
): Promise<void> {
  const sse = streamEvents(form, head, includeUsage);
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
        const { piece } = event;
        const entry = logprobs === undefined ? undefined : chunkLogprobs(form, logprobs(piece));
        if (piece.parts !== undefined) await writer.write(sse.parts(piece.parts, entry));
        else if (entry !== undefined || piece.text !== '') await writer.write(sse.text(piece.text, entry));
      }
      if (event.kind !== 'finished') continue;
      await writer.write(sse.finish(event.reason, event.usage));
      if (includeUsage) await writer.write(sse.usage(event.usage));
      await writer.write(sse.done());
    }
  } catch (thrown) {
    if (!response.destroyed) response.write(sse.error(httpError(ServiceError.from(thrown)).body));
  } finally {
    await events.return();
    writer.end();
  }
}
