/**
 * Which model a request names, read from its bytes before anything else of them: whoever has the model's tokenizer reads the rest.
 * Only the outermost level is looked at, and what does not matter there is skipped, not checked. Between pieces of a long body the
 * event loop gets its turn.
 */
import { nextTurn } from '../turn.ts';
import type { RequestKind } from './request.ts';

export type NamedModel =
  | { readonly kind: 'named'; readonly model: string }
  | { readonly kind: 'absent' }
  /** Not in the form of a request, as far as was looked, or a model that is no text: whoever reads it whole says what is wrong. */
  | { readonly kind: 'unreadable' };

const ABSENT: NamedModel = { kind: 'absent' };
const UNREADABLE: NamedModel = { kind: 'unreadable' };
/** Steps between two looks at the clock, some 10 ns each. */
const STEPS = 2048;
/** Longer names are refused by whoever reads the request; each character may be written as six. */
const MOST_NAME_BYTES = 6 * 512 + 2;
const MOST_KEY_BYTES = 6 * 'model'.length + 2;

/** Reading that pauses now and then. */
type Reading<T> = Generator<void, T, void>;

/** Finds the name in the body of an HTTP request (JSON), or in a gRPC message of this API. */
export async function modelNameIn(kind: RequestKind, body: Uint8Array): Promise<NamedModel> {
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  const reading = kind === 'generate' || kind === 'tokenize' ? inMessage(bytes) : inJson(bytes);
  for (;;) {
    const step = reading.next();
    if (step.done === true) return step.value;
    await nextTurn();
  }
}

const [QUOTE, BACKSLASH, OPEN, CLOSE, OPEN_LIST, CLOSE_LIST, COLON, COMMA] = [...Buffer.from('"\\{}[]:,')];

/** JSON (RFC 8259). Of a key that is there twice the last one counts, as for JSON.parse. */
function* inJson(bytes: Buffer): Reading<NamedModel> {
  let at = 0;
  while (at < bytes.length && (bytes[at] as number) <= 0x20) if (++at % STEPS === 0) yield;
  if (bytes[at] !== OPEN) return UNREADABLE;
  const strings = new StringEnds(bytes);
  let found = ABSENT;
  let key: string | undefined;
  let isKey = true;
  let depth = 1;
  for (let steps = 1; ++at < bytes.length; steps++) {
    if (steps % STEPS === 0) yield;
    switch (bytes[at]) {
      case QUOTE: {
        const end = yield* strings.after(at);
        if (end === undefined) return UNREADABLE;
        if (depth === 1 && isKey) key = textOf(bytes, at, end, MOST_KEY_BYTES);
        else if (depth === 1 && key === 'model') {
          const model = textOf(bytes, at, end, MOST_NAME_BYTES);
          found = model === undefined ? UNREADABLE : { kind: 'named', model };
        }
        at = end;
        break;
      }
      case OPEN:
      case OPEN_LIST:
        depth++;
        break;
      case CLOSE:
      case CLOSE_LIST:
        if (--depth === 0) return found;
        break;
      case COLON:
        if (depth === 1) isKey = false;
        // Unless a string follows.
        if (depth === 1 && key === 'model') found = UNREADABLE;
        break;
      case COMMA:
        if (depth === 1) [isKey, key] = [true, undefined];
        break;
      default:
    }
  }
  return UNREADABLE;
}

/** Where strings end; what is between their quotes is searched, not walked through, and nothing is searched twice. */
class StringEnds {
  readonly #bytes: Buffer;
  readonly #quotes: NextByte;
  readonly #backslashes: NextByte;
  #steps = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
    this.#quotes = new NextByte(bytes, QUOTE as number);
    this.#backslashes = new NextByte(bytes, BACKSLASH as number);
  }

  /** Index of the quote that closes the string which the one at `open` begins; undefined when there is none. */
  *after(open: number): Reading<number | undefined> {
    let at = open + 1;
    for (;;) {
      if (++this.#steps % STEPS === 0) yield;
      const quote = this.#quotes.from(at);
      const backslash = this.#backslashes.from(at);
      if (quote < backslash) return quote;
      if (backslash >= this.#bytes.length) return undefined;
      at = backslash + 2;
    }
  }
}

/** The next place of one byte; what was found stays found until it is passed. */
class NextByte {
  readonly #bytes: Buffer;
  readonly #byte: number;
  #at = -1;

  constructor(bytes: Buffer, byte: number) {
    this.#bytes = bytes;
    this.#byte = byte;
  }

  /** At or after `from`; the length when there is none. Calls go forward. */
  from(from: number): number {
    if (this.#at >= from) return this.#at;
    const found = this.#bytes.indexOf(this.#byte, from);
    return (this.#at = found === -1 ? this.#bytes.length : found);
  }
}

/** A string literal's text; undefined when it is longer than `most` bytes, or none. */
function textOf(bytes: Buffer, open: number, close: number, most: number): string | undefined {
  if (close + 1 - open > most) return undefined;
  try {
    return JSON.parse(bytes.toString('utf8', open, close + 1)) as string;
  } catch {
    return undefined;
  }
}

/** Number and wire type of `model` in GenerateRequest and TokenizeRequest: 1, length-delimited. */
const MODEL_TAG = (1 << 3) | 2;

/** Protocol Buffers (protobuf.dev/programming-guides/encoding). Of a field that is there twice the last one counts. */
function* inMessage(bytes: Buffer): Reading<NamedModel> {
  let found = ABSENT;
  let at = 0;
  for (let steps = 1; at < bytes.length; steps++) {
    if (steps % STEPS === 0) yield;
    const tag = varint(bytes, at);
    if (tag === undefined) return UNREADABLE;
    const content = tag.end;
    const length = tag.value % 8 === 2 ? varint(bytes, content) : undefined;
    const end = fieldEnd(bytes, tag.value % 8, content, length);
    if (end === undefined || end > bytes.length) return UNREADABLE;
    if (tag.value === MODEL_TAG && length !== undefined) {
      const model = length.value > MOST_NAME_BYTES ? undefined : bytes.toString('utf8', length.end, end);
      found = model === undefined ? UNREADABLE : model === '' ? ABSENT : { kind: 'named', model };
    }
    at = end;
  }
  return found;
}

interface Varint {
  readonly value: number;
  readonly end: number;
}

function fieldEnd(bytes: Buffer, wireType: number, at: number, length: Varint | undefined): number | undefined {
  switch (wireType) {
    case 0:
      return varint(bytes, at)?.end;
    case 1:
      return at + 8;
    case 2:
      return length === undefined ? undefined : length.end + length.value;
    case 5:
      return at + 4;
    default:
      return undefined;
  }
}

/** Up to ten bytes, seven bits each; a value beyond 2^53 is inexact, and longer than any message. */
function varint(bytes: Buffer, at: number): Varint | undefined {
  let value = 0;
  for (let i = 0; i < 10; i++) {
    const byte = bytes[at + i];
    if (byte === undefined) return undefined;
    value += (byte & 0x7f) * 2 ** (7 * i);
    if (byte < 0x80) return { value, end: at + i + 1 };
  }
  return undefined;
}
