/** Fragments of machines and how they are put together. */
import { MAX_TOKEN_BYTES } from '../limits.ts';
import type { Machine, Piece } from './machine.ts';

export const nothing: Piece = (_, from) => from;

/** Exactly these bytes. */
export function text(value: string, options: { literal?: boolean } = {}): Piece {
  const bytes = new TextEncoder().encode(value);
  return (machine, from) => {
    let at = from;
    for (const byte of bytes) {
      const next = machine.state();
      if (options.literal === true) machine.literal[at] = true;
      machine.byte(at, byte, byte, next);
      at = next;
    }
    return at;
  };
}

/**
 * Any bytes, up to and including the first occurrence of `end`: at each place so much of it has been read (Knuth, Morris and Pratt).
 */
export function freeUntil(end: string): Piece {
  const wanted = new TextEncoder().encode(end);
  return (machine, from) => {
    const places = Array.from(wanted, () => machine.state());
    const done = machine.state();
    machine.skip(from, places[0] ?? done);
    places.forEach((place, read) => {
      machine.literal[place] = true;
      for (let byte = 0; byte < 256; byte++) {
        const next = longestBeginning(wanted, read, byte);
        machine.byte(place, byte, byte, places[next] ?? done);
      }
    });
    return done;
  };
}

/** How much of `wanted` ends what was read, when `byte` follows on its first `read` bytes. */
function longestBeginning(wanted: Uint8Array, read: number, byte: number): number {
  const text = [...wanted.subarray(0, read), byte];
  for (let length = text.length; length > 0; length--) {
    const tail = text.slice(text.length - length);
    if (tail.every((value, i) => value === wanted[i])) return length;
  }
  return 0;
}

/** One byte of these ranges. */
export function anyByte(...ranges: readonly (readonly [low: number, high: number])[]): Piece {
  return (machine, from) => {
    const to = machine.state();
    for (const [low, high] of ranges) machine.byte(from, low, high, to);
    return to;
  };
}

export function sequence(...pieces: readonly Piece[]): Piece {
  return (machine, from) => pieces.reduce((at, piece) => piece(machine, at), from);
}

export function either(...pieces: readonly Piece[]): Piece {
  return (machine, from) => {
    const end = machine.state();
    for (const piece of pieces) {
      const start = machine.state();
      machine.skip(from, start);
      machine.skip(piece(machine, start), end);
    }
    return end;
  };
}

export function optional(piece: Piece): Piece {
  return either(nothing, piece);
}

export function call(rule: number): Piece {
  return (machine, from) => {
    const to = machine.state();
    machine.call(from, rule, to);
    return to;
  };
}

/**
 * What a rule reads, so many times; it reads a byte or more. States far from both bounds are aliases of one another: within a
 * token nothing tells them apart.
 */
export function repeat(rule: number, min: number, max: number): Piece {
  return (machine, from) => {
    let at = machine.state();
    machine.skip(from, at);
    const end = machine.state();
    const copies = Number.isFinite(max) ? max : min;
    const far = new Map<string, number>();
    for (let done = 0; ; done++) {
      alias(machine, far, at, done, min, max);
      if (done >= min) machine.skip(at, end);
      if (done === copies) break;
      const next = machine.state();
      machine.call(at, rule, next);
      at = next;
    }
    if (!Number.isFinite(max)) machine.call(at, rule, at);
    return end;
  };
}

function alias(machine: Machine, far: Map<string, number>, state: number, done: number, min: number, max: number): void {
  const below = min - done > MAX_TOKEN_BYTES;
  const within = done >= min && max - done > MAX_TOKEN_BYTES;
  if (!below && !within) return;
  const key = below ? 'below' : 'within';
  const first = far.get(key) ?? state;
  far.set(key, first);
  machine.alias[state] = first;
}

/** One of these texts, which share their beginnings: a set of thousands stays deterministic. */
export function oneOfTexts(values: readonly string[]): Piece {
  return (machine, from) => {
    const end = machine.state();
    const root = machine.state();
    machine.skip(from, root);
    const children = new Map<number, Map<number, number>>();
    for (const value of new Set(values)) {
      let at = root;
      for (const byte of new TextEncoder().encode(value)) {
        const known = children.get(at) ?? new Map<number, number>();
        children.set(at, known);
        let next = known.get(byte);
        if (next === undefined) {
          next = machine.state();
          machine.byte(at, byte, byte, next);
          known.set(byte, next);
        }
        at = next;
      }
      machine.skip(at, end);
    }
    return end;
  };
}
