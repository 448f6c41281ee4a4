import { partialMatch } from './partial-match.ts';

/** Text up to a marker. */
export interface Until {
  /** What certainly comes before the marker. */
  readonly text: string;
  /** The marker that was reached, taken off the input; undefined: more text decides. */
  readonly marker: string | undefined;
}

/**
 * Text that comes in pieces and is read from the front. What is read depends only on the text, never on where its pieces end, and
 * costs time linear in it: nothing but a possible beginning of a marker is looked at again.
 */
export class TextInput {
  #text = '';
  #ended = false;
  #record: string[] | undefined;

  push(text: string): void {
    this.#text += text;
  }

  /** No more text comes. */
  end(): void {
    this.#ended = true;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** What has come and was not read. */
  get rest(): string {
    return this.#text;
  }

  take(length: number): string {
    const text = this.#text.slice(0, length);
    this.#text = this.#text.slice(length);
    this.#record?.push(text);
    return text;
  }

  /** Puts `text` in front again. */
  unread(text: string): void {
    this.#text = text + this.#text;
  }

  /** Takes white space (JSON's) off the front. */
  skipSpace(): string {
    let length = 0;
    while (isSpace(this.#text.charCodeAt(length))) length++;
    return length === 0 ? '' : this.take(length);
  }

  /** Which of `strings` the input begins with; false: with none. Undefined: more text decides. */
  startsWith(strings: readonly string[]): string | false | undefined {
    const found = strings.find((string) => this.#text.startsWith(string));
    if (found !== undefined) return found;
    const possible = !this.#ended && strings.some((string) => string.startsWith(this.#text));
    return possible ? undefined : false;
  }

  /** Takes what comes before the first of `markers`, and the marker itself; `keep`: the marker stays. */
  takeUntil(markers: readonly string[], keep = false): Until {
    let at = -1;
    let marker: string | undefined;
    for (const candidate of markers) {
      const found = this.#text.indexOf(candidate);
      if (found === -1 || (at !== -1 && found >= at)) continue;
      at = found;
      marker = candidate;
    }
    if (marker !== undefined) {
      const text = this.take(at);
      if (!keep) this.take(marker.length);
      return { text, marker };
    }
    const longest = Math.max(0, ...markers.map(({ length }) => length));
    const held = this.#ended ? 0 : partialMatch(this.#text, markers, longest);
    return { text: this.take(this.#text.length - held), marker: undefined };
  }

  /** Remembers what is taken from now on, beginning with `text`. */
  record(text: string): void {
    this.#record = [text];
  }

  /** What was taken since `record`. */
  recorded(): string {
    return (this.#record ?? []).join('');
  }

  /** Remembers nothing more. */
  forget(): void {
    this.#record = undefined;
  }
}

function isSpace(code: number): boolean {
  return code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09;
}
