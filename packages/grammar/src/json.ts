/** JSON's own grammar (RFC 8259), with white space bounded: a weak model can't write blanks for ever. */
import { addRange, dfaPiece } from './machine/chars.ts';
import type { Machine, Piece } from './machine/machine.ts';
import { anyByte, call, either, nothing, optional, sequence, text } from './machine/pieces.ts';
import { LAST_CODE_POINT } from './regex/char-dfa.ts';
import { patternDfa } from './regex/regex-dfa.ts';

/** Spaces or tabs after a line break: six levels of four, twelve of two. */
const INDENT = 24;

const HEX = [
  [0x30, 0x39],
  [0x41, 0x46],
  [0x61, 0x66],
] as const;

/**
 * Up to 19 digits before and 17 behind the point, exponents of two digits: what a reader of doubles or 64-bit integers can take, never
 * an infinity.
 */
const NUMBER = '-?(0|[1-9]\\d{0,18})(\\.\\d{1,17})?([eE][+-]?\\d{1,2})?';
const INTEGER = '-?(0|[1-9]\\d{0,18})';

/** Rules that every machine for JSON shares, made when first used. */
export class JsonRules {
  readonly machine: Machine;

  constructor(machine: Machine) {
    this.machine = machine;
  }

  /** Between tokens: nothing, a space, or a line break with its indentation. */
  get gap(): Piece {
    return call(this.#rule('gap', () => either(nothing, text(' '), sequence(text('\n'), indentation()))));
  }

  /** After a colon. */
  get space(): Piece {
    return optional(text(' '));
  }

  get string(): Piece {
    return call(this.stringRule);
  }

  get stringRule(): number {
    return this.#rule('string', () => (machine, from) => {
      const inside = text('"')(machine, from);
      addCharacter(machine, inside, inside);
      return text('"')(machine, inside);
    });
  }

  /** One character of a string, however it is spelled. */
  get characterRule(): number {
    return this.#rule('character', () => (machine, from) => {
      const to = machine.state();
      addCharacter(machine, from, to);
      return to;
    });
  }

  get number(): Piece {
    return call(this.#rule('number', () => dfaPiece(patternDfa(NUMBER), 'raw')));
  }

  get integer(): Piece {
    return call(this.#rule('integer', () => dfaPiece(patternDfa(INTEGER), 'raw')));
  }

  /** Any value at all. */
  get value(): number {
    const literals = ['true', 'false', 'null'].map((word) => text(word));
    return this.#rule('value', () => either(call(this.object), call(this.#array), this.string, this.number, ...literals));
  }

  /** Any object. */
  get object(): number {
    return this.#rule('object', () => this.members(this.string, call(this.value)));
  }

  /** An object of any number of members. */
  members(key: Piece, value: Piece): Piece {
    const member = sequence(key, text(':'), this.space, value);
    return sequence(text('{'), this.gap, optional(this.#list(member)), text('}'));
  }

  get #array(): number {
    return this.#rule('array', () => sequence(text('['), this.gap, optional(this.#list(call(this.value))), text(']')));
  }

  /** One or more, with commas, and the gap before what closes. */
  #list(item: Piece): Piece {
    return (machine, from) => {
      const begin = machine.state();
      machine.skip(from, begin);
      const end = item(machine, begin);
      machine.skip(sequence(text(','), this.gap)(machine, end), begin);
      return this.gap(machine, end);
    };
  }

  /** The piece is made after the rule is known: it may call it. */
  #rule(name: string, piece: () => Piece): number {
    return this.machine.shared(`json ${name}`, (machine, from) => piece()(machine, from));
  }
}

function indentation(): Piece {
  const blank = anyByte([0x20, 0x20], [0x9, 0x9]);
  return (machine, from) => {
    const end = machine.state();
    let at = from;
    for (let i = 0; i < INDENT; i++) {
      machine.skip(at, end);
      at = blank(machine, at);
    }
    machine.skip(at, end);
    return end;
  };
}

/** One character of a JSON string: as it is, by a short escape, or by \u; surrogates in pairs only. */
function addCharacter(machine: Machine, from: number, to: number): void {
  addRange(machine, from, 0x20, 0x21, to, 'raw');
  addRange(machine, from, 0x23, 0x5b, to, 'raw');
  addRange(machine, from, 0x5d, LAST_CODE_POINT, to, 'raw');
  const escape = text('\\')(machine, from);
  for (const letter of '"\\/bfnrt') {
    const byte = letter.charCodeAt(0);
    machine.byte(escape, byte, byte, to);
  }
  const unit = text('u')(machine, escape);
  const hex = anyByte(...HEX);
  machine.skip(
    sequence(anyByte([0x30, 0x39], [0x41, 0x43], [0x45, 0x46], [0x61, 0x63], [0x65, 0x66]), hex, hex, hex)(machine, unit),
    to,
  );
  const surrogate = anyByte([0x44, 0x44], [0x64, 0x64])(machine, unit);
  machine.skip(sequence(anyByte([0x30, 0x37]), hex, hex)(machine, surrogate), to);
  const pair = sequence(
    anyByte([0x38, 0x39], [0x41, 0x42], [0x61, 0x62]),
    hex,
    hex,
    text('\\u'),
    anyByte([0x44, 0x44], [0x64, 0x64]),
  );
  machine.skip(sequence(pair, anyByte([0x43, 0x46], [0x63, 0x66]), hex, hex)(machine, surrogate), to);
}
