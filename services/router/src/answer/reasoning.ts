import { TextInput } from './text-input.ts';

export const THINK_BEGIN = '<think>';
export const THINK_END = '</think>';

/** How an answer may think: the prompt has opened it already, or the answer may do so itself. */
export type ReasoningStart = 'open' | 'possible';

/**
 * Divides an answer into reasoning, from `<think>` at its very beginning to `</think>`, and what follows. White space around the
 * reasoning is dropped. Later `<think>` are text.
 */
export class ReasoningSplitter {
  readonly #ends: readonly string[];
  readonly #reasoning: (text: string) => void;
  readonly #following: (text: string) => void;
  readonly #input = new TextInput();
  #phase: 'start' | 'reasoning' | 'after' | 'text';
  #mayOpen: boolean;
  /** White space that may be at the end of the reasoning. */
  #space = '';
  /** Reasoning was given. */
  #any = false;

  /** `endMarks` end reasoning too, and are part of what follows. */
  constructor(
    start: ReasoningStart,
    endMarks: readonly string[],
    to: { reasoning: (text: string) => void; following: (text: string) => void },
  ) {
    this.#phase = start === 'open' ? 'reasoning' : 'start';
    this.#mayOpen = true;
    this.#ends = [THINK_END, ...endMarks];
    this.#reasoning = to.reasoning;
    this.#following = to.following;
  }

  /** The text so far ends in reasoning. */
  get reasoning(): boolean {
    return this.#phase === 'reasoning';
  }

  push(text: string): void {
    this.#input.push(text);
    while (this.#step());
  }

  end(): void {
    this.#input.end();
    while (this.#step());
  }

  /** False: more text decides. */
  #step(): boolean {
    switch (this.#phase) {
      case 'start': {
        this.#space += this.#input.skipSpace();
        const mark = this.#opening();
        if (mark === undefined) return false;
        if (mark === false) this.#following(this.#space);
        this.#space = '';
        this.#phase = mark === false ? 'text' : 'reasoning';
        return true;
      }
      case 'reasoning':
        return this.#reason();
      case 'after':
        this.#input.skipSpace();
        if (this.#input.rest === '') return false;
        this.#phase = 'text';
        return true;
      case 'text':
        this.#following(this.#input.take(this.#input.rest.length));
        return false;
    }
  }

  /** Takes `<think>`, once: models write it again where the prompt has it already. */
  #opening(): string | false | undefined {
    const mark = this.#input.startsWith([THINK_BEGIN]);
    if (mark === undefined) return mark;
    this.#mayOpen = false;
    if (mark !== false) this.#input.take(mark.length);
    return mark;
  }

  #reason(): boolean {
    if (this.#mayOpen) {
      this.#input.skipSpace();
      return this.#opening() !== undefined;
    }
    const { text: all, marker } = this.#input.takeUntil(this.#ends, true);
    const text = this.#any ? all : all.trimStart();
    const end = text.trimEnd().length;
    if (end > 0) {
      this.#reasoning(this.#space + text.slice(0, end));
      this.#space = '';
      this.#any = true;
    }
    if (this.#any) this.#space += text.slice(end);
    if (marker === undefined) return false;
    if (marker === THINK_END) this.#input.take(marker.length);
    this.#phase = 'after';
    return true;
  }
}
