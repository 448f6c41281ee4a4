import { ServiceError } from '@causeway/errors';
import { answerBody, type AnswerForm, type AnswerHead, kvHeader, streamEvents } from '@causeway/openai';
import type { FastifyReply, FastifyRequest } from 'fastify';
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
  if (options.stream) await streamed(ctx, reply, { form, head, includeUsage: options.includeUsage }, events);
  else await whole(reply, form, head, events);
}

/** The bytes of the body; none at all is an empty one. */
function bodyOf(request: FastifyRequest): Uint8Array {
  return request.body instanceof Uint8Array ? request.body : new Uint8Array(0);
}

async function whole(reply: FastifyReply, form: AnswerForm, head: AnswerHead, events: AsyncIterable<ServedEvent>): Promise<void> {
  let text = '';
  for await (const event of events) {
    if (event.kind === 'piece') text += event.piece.text;
    if (event.kind !== 'finished') continue;
    void reply.header('x-causeway-kv', kvHeader(event.usage.causeway));
    await reply.send(answerBody(form, head, text, event.reason, event.usage));
  }
}

async function streamed(
  ctx: RequestContext,
  reply: FastifyReply,
  stream: { form: AnswerForm; head: AnswerHead; includeUsage: boolean },
  events: AsyncGenerator<ServedEvent, void>,
): Promise<void> {
  const sse = streamEvents(stream.form, stream.head, stream.includeUsage);
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
      if (event.kind === 'piece' && event.piece.text !== '') await writer.write(sse.text(event.piece.text));
      if (event.kind !== 'finished') continue;
      await writer.write(sse.finish(event.reason, event.usage));
      if (stream.includeUsage) await writer.write(sse.usage(event.usage));
      await writer.write(sse.done());
    }
  } catch (thrown) {
    if (!response.destroyed) response.write(sse.error(httpError(ServiceError.from(thrown)).body));
  } finally {
    await events.return();
    writer.end();
  }
}
