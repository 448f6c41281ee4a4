/** One streamed request to an OpenAI-compatible endpoint, timed as its client sees it. */
import { createParser, type EventSourceMessage } from 'eventsource-parser';
import { z } from 'zod';

export interface Target {
  /** With /v1. */
  baseUrl: string;
  apiKey: string | undefined;
  model: string;
  endpoint: 'chat' | 'completions';
  ignoreEos: boolean;
  timeoutMs: number;
}

/** Times are milliseconds after the request was sent. */
export interface RequestRecord {
  /** After the start of the run. */
  sentMs: number;
  /** How much later than planned. */
  lateMs: number;
  /** When each piece of text came. */
  chunkMs: number[];
  /** When the answer was complete, or failed. */
  endMs: number;
  /** As the server counted; undefined: it did not say. */
  promptTokens: number | undefined;
  completionTokens: number | undefined;
  outcome: { kind: 'completed' } | { kind: 'failed'; error: string } | { kind: 'unfinished' };
}

const delta = z.object({
  content: z.string().nullish(),
  reasoning_content: z.string().nullish(),
  reasoning: z.string().nullish(),
  tool_calls: z.array(z.unknown()).nullish(),
});
const chunk = z.object({
  choices: z
    .array(z.object({ delta: delta.nullish(), text: z.string().nullish(), finish_reason: z.string().nullish() }))
    .nullish()
    .transform((choices) => choices ?? []),
  usage: z.object({ prompt_tokens: z.int(), completion_tokens: z.int() }).nullish(),
  error: z.union([z.string(), z.object({ message: z.string() })]).nullish(),
});

/** An event of a stream is never this long; an endpoint that sends more without an end is no such endpoint. */
const MOST_EVENT_CHARACTERS = 4 * 1024 * 1024;
const ERROR_CHARACTERS = 300;

function bodyOf(target: Target, prompt: string, maxTokens: number): object {
  return {
    model: target.model,
    ...(target.endpoint === 'chat' ? { messages: [{ role: 'user', content: prompt }] } : { prompt }),
    max_tokens: maxTokens,
    temperature: 0,
    stream: true,
    stream_options: { include_usage: true },
    ...(target.ignoreEos ? { ignore_eos: true } : {}),
  };
}

/** What an endpoint's error says: its message if it is of OpenAI's form. */
function errorText(status: number, body: string): string {
  let message = body;
  try {
    const parsed = z.object({ error: z.union([z.string(), z.object({ message: z.string() })]) }).parse(JSON.parse(body));
    message = typeof parsed.error === 'string' ? parsed.error : parsed.error.message;
  } catch {
    // The body itself is what is known.
  }
  return `HTTP ${status}: ${message.slice(0, ERROR_CHARACTERS)}`;
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? `${error.message} (${error.cause.message})` : error.message;
}

/** Sends a request and reads its stream to the end. Never throws: what went wrong is in the record. */
export async function timedRequest(
  target: Target,
  prompt: string,
  maxTokens: number,
  at: { startedAt: number; plannedMs: number | undefined },
  stop: AbortSignal,
): Promise<RequestRecord> {
  const sentAt = performance.now();
  const sentMs = sentAt - at.startedAt;
  const record: RequestRecord = {
    sentMs,
    lateMs: at.plannedMs === undefined ? 0 : sentMs - at.plannedMs,
    chunkMs: [],
    endMs: 0,
    promptTokens: undefined,
    completionTokens: undefined,
    outcome: { kind: 'unfinished' },
  };
  const timeout = AbortSignal.timeout(target.timeoutMs);
  try {
    await readAnswer(target, bodyOf(target, prompt, maxTokens), AbortSignal.any([stop, timeout]), record, sentAt);
    record.outcome = { kind: 'completed' };
  } catch (error) {
    if (timeout.aborted && !stop.aborted) {
      record.outcome = { kind: 'failed', error: `no complete answer within ${target.timeoutMs / 1000} s` };
    } else if (!stop.aborted) record.outcome = { kind: 'failed', error: describe(error) };
  }
  record.endMs = performance.now() - sentAt;
  return record;
}

async function readAnswer(
  target: Target,
  body: object,
  signal: AbortSignal,
  record: RequestRecord,
  sentAt: number,
): Promise<void> {
  const response = await fetch(`${target.baseUrl}/${target.endpoint === 'chat' ? 'chat/completions' : 'completions'}`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      ...(target.apiKey === undefined ? {} : { authorization: `Bearer ${target.apiKey}` }),
    },
    body: JSON.stringify(body),
    signal,
  });
  if (!response.ok || response.body === null) throw new Error(errorText(response.status, await shortText(response)));
  let ended = false;
  let since = 0;
  const parser = createParser({
    onEvent: (event) => {
      since = 0;
      ended = takeEvent(event, record, performance.now() - sentAt) || ended;
    },
  });
  for await (const text of response.body.pipeThrough(new TextDecoderStream(), { signal })) {
    since += text.length;
    parser.feed(text);
    if (since > MOST_EVENT_CHARACTERS)
      throw new Error(`the stream has no event in ${MOST_EVENT_CHARACTERS} characters: it is no event stream`);
  }
  if (!ended) throw new Error('the stream ended before the answer did');
  if (record.chunkMs.length === 0 && (record.completionTokens ?? 0) > 0) {
    throw new Error('the stream has counted tokens and no text: its chunks have no known form');
  }
}

/** The beginning of a body, however long it is. */
async function shortText(response: Response): Promise<string> {
  let text = '';
  for await (const part of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
    text += part;
    if (text.length > 16 * ERROR_CHARACTERS) break;
  }
  return text;
}

/** Whether the answer is complete. @throws Error when the event is none of a completion's, or says so */
function takeEvent({ data }: EventSourceMessage, record: RequestRecord, now: number): boolean {
  if (data === '[DONE]') return true;
  let json: unknown;
  try {
    json = JSON.parse(data);
  } catch {
    throw new Error(`the stream holds something else than JSON: ${data.slice(0, ERROR_CHARACTERS)}`);
  }
  const parsed = chunk.safeParse(json);
  if (!parsed.success) throw new Error(`the stream holds something else than an answer: ${data.slice(0, ERROR_CHARACTERS)}`);
  const { choices, usage, error } = parsed.data;
  if (error != null)
    throw new Error(`the stream says: ${(typeof error === 'string' ? error : error.message).slice(0, ERROR_CHARACTERS)}`);
  const [choice] = choices;
  const text = choice?.text ?? choice?.delta?.content ?? '';
  const thought = choice?.delta?.reasoning_content ?? choice?.delta?.reasoning ?? '';
  if (text !== '' || thought !== '' || (choice?.delta?.tool_calls?.length ?? 0) > 0) record.chunkMs.push(now);
  record.promptTokens = usage?.prompt_tokens ?? record.promptTokens;
  record.completionTokens = usage?.completion_tokens ?? record.completionTokens;
  return choice?.finish_reason != null;
}
