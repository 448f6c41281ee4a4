import { ServiceError } from '@causeway/errors';
import {
  type AnswerForm,
  type AnswerHead,
  answerJson,
  AnswerMessage,
  AnswerLogprobs,
  choiceJson,
  chunkLogprobs,
  kvHeader,
  promptChunkLogprobs,
  type PromptLogprob,
  type StreamEvents,
  streamEvents,
  type TokenLogprob,
} from '@causeway/openai';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { AnswerPiece } from '../answer/answer.ts';
import { pieceLogprobs } from '../answer/piece-logprobs.ts';
import { promptLogprobs } from '../answer/prompt-scores.ts';
import type { PromptEvent } from '../attempt/follow.ts';
import { httpError } from '../http/errors.ts';
import { type StreamWriter, streamWriter } from '../http/stream-writer.ts';
import type { RequestContext } from '../request-context.ts';
import type { RouterParts } from '../router-parts.ts';
import { nextTurn } from '../turn.ts';
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
  const { fields, echoes, choices } = accepted.value;
  const { model, options } = fields;
  const head: AnswerHead = {
    id: `${form === 'chat' ? 'chatcmpl' : 'cmpl'}-${request.id}`,
    created: Math.floor(Date.now() / 1000),
    model: model ?? router.model,
  };
  const { stream, includeUsage, logprobs, n } = options;
  const starts = echoes.map((text) => characters(text));
  const named = (choice: number, piece: AnswerPiece): TokenLogprob => {
    const entry = pieceLogprobs(piece, router.tokenizer);
    return { ...entry, offset: entry.offset + (starts[Math.floor(choice / n)] ?? 0) };
  };
  const wanted: AnswerStyle = {
    form,
    head,
    includeUsage,
    choices,
    perPrompt: n,
    promptLogprobs: ({ ids, scores }) => promptLogprobs(ids, scores, router.tokenizer),
    echo: (choice) => echoes[Math.floor(choice / n)] ?? '',
    ...(logprobs === undefined ? {} : { logprobs: named }),
  };
  await (stream ? streamed(ctx, reply, wanted, events) : whole(reply, wanted, events));
}

/** How an answer is written. */
interface AnswerStyle {
  readonly form: AnswerForm;
  readonly head: AnswerHead;
  readonly includeUsage: boolean;
  /** Answers to be given. */
  readonly choices: number;
  /** What comes before the text of a choice, often empty. */
  readonly echo: (choice: number) => string;
  /** Set when log-probabilities are wanted. */
  readonly logprobs?: (choice: number, piece: AnswerPiece) => TokenLogprob;
  /** Answers to each prompt. */
  readonly perPrompt: number;
  readonly promptLogprobs: (event: PromptEvent) => Promise<readonly PromptLogprob[]>;
}

function characters(text: string): number {
  let count = 0;
  for (const _ of text) count++;
  return count;
}

/** The bytes of the body; none at all is an empty one. */
export function bodyOf(request: FastifyRequest): Uint8Array {
  return request.body instanceof Uint8Array ? request.body : new Uint8Array(0);
}

/** One choice of a whole answer, as it grows. */
class WholeChoice {
  readonly logprobs: AnswerLogprobs;
  /** Set at its end: the entry in `choices`. */
  json = '';
  #text: string;
  /** Where the answer's parts are told apart. */
  #message: AnswerMessage | undefined;

  constructor(form: AnswerForm, echo: string) {
    this.logprobs = new AnswerLogprobs(form);
    this.#text = echo;
  }

  add({ text, parts }: AnswerPiece): void {
    if (parts === undefined) this.#text += text;
    else (this.#message ??= new AnswerMessage()).add(parts);
  }

  get content(): string | AnswerMessage {
    return this.#message ?? this.#text;
  }
}

async function whole(reply: FastifyReply, style: AnswerStyle, events: AsyncIterable<ServedEvent>): Promise<void> {
  const { form, head, choices, echo, logprobs } = style;
  const all = Array.from({ length: choices }, (_, index) => new WholeChoice(form, echo(index)));
  for await (const event of events) {
    if (event.kind === 'accepted') continue;
    if (event.kind === 'prompt') {
      for (const entry of await style.promptLogprobs(event)) {
        await nextTurn();
        for (let i = 0; i < style.perPrompt; i++) all[event.choice + i]?.logprobs.addPrompt(entry);
      }
      continue;
    }
    const choice = all[event.choice] as WholeChoice;
    if (event.kind === 'piece') {
      choice.add(event.piece);
      if (logprobs !== undefined) choice.logprobs.add(logprobs(event.choice, event.piece));
      continue;
    }
    const { reason, usage } = event;
    await nextTurn();
    const entries = logprobs === undefined ? null : choice.logprobs.toJson();
    choice.json = choiceJson(form, event.choice, choice.content, reason, entries);
    if (usage === undefined) continue;
    void reply.header('x-causeway-kv', kvHeader(usage.causeway));
    void reply.header('content-type', 'application/json; charset=utf-8');
    const list = all.map(({ json }) => json);
    await reply.send(answerJson(form, head, list, usage));
  }
}

async function streamed(
  ctx: RequestContext,
  reply: FastifyReply,
  style: AnswerStyle,
  events: AsyncGenerator<ServedEvent, void>,
): Promise<void> {
  const { form, head, includeUsage, choices, echo, logprobs } = style;
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
    for (let choice = 0; choice < choices; choice++) {
      await writer.write(sse.start(choice));
      // With log-probabilities it comes when they do.
      if (logprobs === undefined && echo(choice) !== '') await writer.write(sse.text(choice, echo(choice)));
    }
    for (; next.done !== true; next = await events.next()) {
      const event = next.value;
      if (event.kind === 'prompt') {
        const entries = await style.promptLogprobs(event);
        for (let i = 0; i < style.perPrompt; i++) await writePrompt(event.choice + i, entries, style, sse, writer);
      }
      if (event.kind === 'piece') {
        const { choice, piece } = event;
        const entry = logprobs === undefined ? undefined : chunkLogprobs(form, logprobs(choice, piece));
        if (piece.parts !== undefined) await writer.write(sse.parts(choice, piece.parts, entry));
        else if (entry !== undefined || piece.text !== '') await writer.write(sse.text(choice, piece.text, entry));
      }
      if (event.kind !== 'finished') continue;
      await writer.write(sse.finish(event.choice, event.reason, event.usage));
      if (event.usage === undefined) continue;
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

/** Tokens of a prompt in one chunk. */
const PROMPT_CHUNK = 256;

/** A prompt that is given back with its log-probabilities: its text with the first of them, the others in chunks of their own. */
async function writePrompt(
  choice: number,
  entries: readonly PromptLogprob[],
  { echo }: AnswerStyle,
  sse: StreamEvents,
  writer: StreamWriter,
): Promise<void> {
  for (let at = 0; at < entries.length; at += PROMPT_CHUNK) {
    await nextTurn();
    const logprobs = promptChunkLogprobs(entries.slice(at, at + PROMPT_CHUNK));
    await writer.write(sse.text(choice, at === 0 ? echo(choice) : '', logprobs));
  }
}
