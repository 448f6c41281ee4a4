/**
 * Text from tokens as they come.
 *
 * Invariants
 *  D1  The pieces together equal the decoding of all tokens at once.
 *  D2  A piece never ends inside a character: a trailing replacement character is held back until more bytes decide. An unfinished
 *      character at the end of UTF-8 decodes to exactly one (WHATWG Encoding, UTF-8 decoder).
 *  D3  Work per token is bounded: only a short window of tokens is decoded again.
 */

/** Turns tokens into text as they come; never gives half a character. */
export interface DecodeStream {
  /** Text that this token completes, often empty. Special tokens give none. */
  push(id: number): string;
  /** What is left at the end; an incomplete character becomes U+FFFD. */
  flush(): string;
}

const REPLACEMENT = '\u{fffd}';
/** From so many undecided tokens on, the window is shortened (D3). */
const LONG_WINDOW = 8;

/** `decode` turns tokens into text; `isSilent` says which tokens never give any. */
export function createDecodeStream(decode: (ids: readonly number[]) => string, isSilent: (id: number) => boolean): DecodeStream {
  /** Tokens whose text is out already; some decoders treat the first token of a text differently, so they stay as context. */
  let context: number[] = [];
  let contextLength = 0;
  /** Tokens after the context, and how many characters of their text are out. */
  let pending: number[] = [];
  let given = 0;

  const restart = (tokens: number[]): void => {
    context = tokens;
    contextLength = decode(tokens).length;
  };
  const textOf = (tokens: readonly number[]): string => decode([...context, ...tokens]).slice(contextLength);

  /** Moves the longest run of pending tokens whose whole text is out, and final, to the context. */
  const shorten = (text: string): void => {
    for (let count = pending.length - 1; count > 0; count--) {
      const start = textOf(pending.slice(0, count));
      if (start.length > given || !text.startsWith(start)) continue;
      restart(pending.slice(0, count));
      pending = pending.slice(count);
      given -= start.length;
      return;
    }
  };

  return {
    push: (id) => {
      if (isSilent(id)) return '';
      pending.push(id);
      const text = textOf(pending);
      const end = text.endsWith(REPLACEMENT) ? text.length - 1 : text.length;
      const piece = text.slice(given, Math.max(given, end));
      given += piece.length;
      if (end === text.length) {
        restart(pending);
        pending = [];
        given = 0;
      } else if (pending.length >= LONG_WINDOW) {
        shorten(text);
      }
      return piece;
    },
    flush: () => {
      const rest = pending.length === 0 ? '' : textOf(pending).slice(given);
      restart([]);
      pending = [];
      given = 0;
      return rest;
    },
  };
}
