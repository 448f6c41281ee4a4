/** The answers that failures meet, and how they are compared with undisturbed ones. */
import type { Cell } from './cells.ts';
import type { AnswerRequest, Received } from './client.ts';

const NOTES = Array.from(
  { length: 40 },
  (_, i) => `The code of the box ${i} is ${100 + i * 7}. Mia put the map in the garden. Tom sleeps in room ${i}.`,
).join(' ');
/** Some 1,200 tokens, five chunks; the model counts beyond the limit, for more than half a second. */
export const PROMPT = `${NOTES} Count from 1 to 90.`;
export const MAX_TOKENS = 200;
const SEED = 7;

/** An undisturbed answer. */
export interface Reference {
  readonly ids: readonly number[];
  readonly text: string;
}

/** What is asked of the router, less what differs from cell to cell. */
export function longRequest(cell: Pick<Cell, 'api' | 'temperature'>, requestId: string, signal: AbortSignal): AnswerRequest {
  return {
    api: cell.api,
    temperature: cell.temperature,
    prompt: PROMPT,
    maxTokens: MAX_TOKENS,
    seed: SEED,
    requestId,
    signal,
  };
}

/** How what a client received differs from the undisturbed answer; undefined: it doesn't. */
export function difference(received: Received, reference: Reference, api: 'grpc' | 'http'): string | undefined {
  if (received.error !== undefined) return `the stream broke: ${received.error.message}`;
  if (api === 'grpc' && received.ids.join() !== reference.ids.join()) {
    return `tokens [${received.ids.join()}] instead of [${reference.ids.join()}]`;
  }
  if (received.text !== reference.text)
    return `text ${JSON.stringify(received.text)} instead of ${JSON.stringify(reference.text)}`;
  if (received.completionTokens !== reference.ids.length) return `${received.completionTokens} tokens were counted`;
  return received.finishReason === undefined ? 'the answer has no finish reason' : undefined;
}

/** How what came before a break contradicts the undisturbed answer. */
export function contradiction(received: Received, reference: Reference): string | undefined {
  const begins = received.ids.every((id, i) => id === reference.ids[i]);
  if (!begins || !reference.text.startsWith(received.text)) {
    return `received [${received.ids.join()}] ${JSON.stringify(received.text)}, which does not begin [${reference.ids.join()}]`;
  }
  return undefined;
}
