/** What the text of an answer is made of, once calls of tools and reasoning are told apart, and the forms that OpenAI gives it. */
import type { FinishReasonName } from './responses.ts';

export type AnswerPart =
  | { readonly kind: 'content'; readonly text: string }
  /** What the model thinks before it answers. */
  | { readonly kind: 'reasoning'; readonly text: string }
  /** A call begins; calls are counted from 0. */
  | { readonly kind: 'call'; readonly index: number; readonly id: string; readonly name: string }
  /** More of the JSON text of a call's arguments. */
  | { readonly kind: 'arguments'; readonly index: number; readonly text: string }
  /** The call is complete: `valid` says whether its arguments are JSON; `source` is all its text as the model wrote it. */
  | { readonly kind: 'call_end'; readonly index: number; readonly valid: boolean; readonly source: string };

/** `choices[].delta` of a streamed part; undefined for those that a stream has no word for. */
export function partDelta(part: AnswerPart): object | undefined {
  switch (part.kind) {
    case 'content':
      return { content: part.text };
    case 'reasoning':
      return { reasoning_content: part.text };
    case 'call': {
      const { index, id, name } = part;
      return { tool_calls: [{ index, id, type: 'function', function: { name, arguments: '' } }] };
    }
    case 'arguments':
      return { tool_calls: [{ index: part.index, function: { arguments: part.text } }] };
    case 'call_end':
      return undefined;
  }
}

interface Call {
  readonly id: string;
  readonly name: string;
  arguments: string;
}

/**
 * `choices[].message` of a whole answer, gathered from its parts. A call whose arguments are no JSON is given as content, in the
 * model's own words: unlike a stream, which has sent its beginning by then, a whole answer can still do so.
 */
export class AnswerMessage {
  #content = '';
  #reasoning = '';
  readonly #calls = new Map<number, Call>();

  add(parts: readonly AnswerPart[]): void {
    for (const part of parts) this.#add(part);
  }

  #add(part: AnswerPart): void {
    switch (part.kind) {
      case 'content':
        this.#content += part.text;
        return;
      case 'reasoning':
        this.#reasoning += part.text;
        return;
      case 'call':
        this.#calls.set(part.index, { id: part.id, name: part.name, arguments: '' });
        return;
      case 'arguments': {
        const call = this.#calls.get(part.index);
        if (call !== undefined) call.arguments += part.text;
        return;
      }
      case 'call_end':
        if (part.valid) return;
        this.#calls.delete(part.index);
        this.#content += part.source;
    }
  }

  /** OpenAI's `message`: no content at all is null beside calls or reasoning. */
  toJson(): object {
    const calls = Array.from(this.#calls.values(), ({ id, name, arguments: text }) => ({
      id,
      type: 'function',
      function: { name, arguments: text },
    }));
    const bare = this.#content === '' && (calls.length > 0 || this.#reasoning !== '');
    return {
      role: 'assistant',
      content: bare ? null : this.#content,
      refusal: null,
      ...(this.#reasoning === '' ? {} : { reasoning_content: this.#reasoning }),
      ...(calls.length === 0 ? {} : { tool_calls: calls }),
    };
  }

  /** An answer all of whose calls turned out to be content has none. */
  finishReason(reason: FinishReasonName): FinishReasonName {
    return reason === 'tool_calls' && this.#calls.size === 0 ? 'stop' : reason;
  }
}
