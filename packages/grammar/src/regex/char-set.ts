/** Sets of code points as sorted, disjoint ranges. */
import { work } from '../work.ts';
import { LAST_CODE_POINT } from './char-dfa.ts';

export type CharSet = readonly (readonly [low: number, high: number])[];

export const ANY: CharSet = [[0, LAST_CODE_POINT]];
export const DIGITS: CharSet = [[0x30, 0x39]];
export const WORD: CharSet = [
  [0x30, 0x39],
  [0x41, 0x5a],
  [0x5f, 0x5f],
  [0x61, 0x7a],
];
/** ECMAScript's white space and line terminators. */
export const SPACE: CharSet = [
  [0x9, 0xd],
  [0x20, 0x20],
  [0xa0, 0xa0],
  [0x1680, 0x1680],
  [0x2000, 0x200a],
  [0x2028, 0x2029],
  [0x202f, 0x202f],
  [0x205f, 0x205f],
  [0x3000, 0x3000],
  [0xfeff, 0xfeff],
];
/** What `.` does not match. */
const LINE_ENDS: CharSet = [
  [0xa, 0xa],
  [0xd, 0xd],
  [0x2028, 0x2029],
];
export const DOT: CharSet = negated(LINE_ENDS);

export function united(...sets: readonly CharSet[]): CharSet {
  const result: [number, number][] = [];
  for (const [low, high] of sets.flat().sort((a, b) => a[0] - b[0])) {
    const last = result.at(-1);
    if (last !== undefined && low <= last[1] + 1) last[1] = Math.max(last[1], high);
    else result.push([low, high]);
  }
  return result;
}

export function negated(set: CharSet): CharSet {
  const result: [number, number][] = [];
  let from = 0;
  for (const [low, high] of set) {
    if (low > from) result.push([from, low - 1]);
    from = high + 1;
  }
  if (from <= LAST_CODE_POINT) result.push([from, LAST_CODE_POINT]);
  return result;
}

/** Every code point is looked at; charged whether or not it was done before, so that the verdict is always the same. */
const PROPERTY_WORK = 30_000;
const FIRST_SURROGATE = 0xd800;
const AFTER_SURROGATES = 0xe000;
const FIRST_OF_TWO_UNITS = 0x10000;

const properties = new Map<string, CharSet | undefined>();
let everyCharacter: string | undefined;

/** Code points with a Unicode property, such as `L` or `Script=Greek`; undefined: there is no such one. */
export function unicodeProperty(name: string): CharSet | undefined {
  work(PROPERTY_WORK);
  if (!properties.has(name)) properties.set(name, findProperty(name));
  return properties.get(name);
}

function findProperty(name: string): CharSet | undefined {
  let expression: RegExp;
  try {
    expression = new RegExp(`\\p{${name}}+`, 'gu');
  } catch {
    return undefined;
  }
  everyCharacter ??= everyCodePoint();
  return united(
    Array.from(
      everyCharacter.matchAll(expression),
      ({ 0: run, index }) => [pointAt(index), pointAt(index + run.length) - 1] as const,
    ),
  );
}

/** All code points in order, but for surrogates, which are no characters. */
function everyCodePoint(): string {
  const parts: string[] = [];
  for (let start = 0; start <= LAST_CODE_POINT; start += 0x800) {
    if (start >= FIRST_SURROGATE && start < AFTER_SURROGATES) continue;
    parts.push(String.fromCodePoint(...Array.from({ length: 0x800 }, (_, i) => start + i)));
  }
  return parts.join('');
}

/** The code point at an index of `everyCodePoint`. */
function pointAt(index: number): number {
  if (index < FIRST_SURROGATE) return index;
  const skipped = index + AFTER_SURROGATES - FIRST_SURROGATE;
  return skipped < FIRST_OF_TWO_UNITS ? skipped : FIRST_OF_TWO_UNITS + (skipped - FIRST_OF_TWO_UNITS) / 2;
}
