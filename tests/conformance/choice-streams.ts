/** What tests of several answers, of several prompts and of echo share. */
import type OpenAI from 'openai';

/** Answers of the first three choices. */
export const TEXTS = ['The first answer 😀', 'a second one, which is longer than the others', 'third'] as const;
export const messages = [{ role: 'user' as const, content: 'count' }];

export interface Causeway {
  causeway: Record<string, unknown>;
}

/** What a stream said of each choice. */
export interface Streamed {
  texts: string[];
  roles: number;
  finishes: { index: number; reason: string; usage: unknown }[];
  chunks: (OpenAI.ChatCompletionChunk | OpenAI.Completion)[];
}

export async function streamed(stream: AsyncIterable<OpenAI.ChatCompletionChunk | OpenAI.Completion>): Promise<Streamed> {
  const seen: Streamed = { texts: [], roles: 0, finishes: [], chunks: [] };
  for await (const chunk of stream) {
    seen.chunks.push(chunk);
    for (const choice of chunk.choices) {
      const { index } = choice;
      const text = 'delta' in choice ? choice.delta.content : choice.text;
      seen.texts[index] = (seen.texts[index] ?? '') + (text ?? '');
      if ('delta' in choice && choice.delta.role !== undefined) seen.roles++;
      if (choice.finish_reason !== null) seen.finishes.push({ index, reason: choice.finish_reason, usage: chunk.usage });
    }
  }
  return seen;
}

/** Rejects when a call ends. */
export const aborted = (signal: AbortSignal): Promise<never> =>
  new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true }));
