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

/** Every code point is looked at. */
const PROPERTY_WORK = 200_000;

const properties = new Map<string, CharSet | undefined>();

/** Code points with a Unicode property, such as `L` or `Script=Greek`; undefined: there is no such one. */
export function unicodeProperty(name: string): CharSet | undefined {
  if (!properties.has(name)) properties.set(name, findProperty(name));
  return properties.get(name);
}

function findProperty(name: string): CharSet | undefined {
  let expression: RegExp;
  try {
    expression = new RegExp(`^\\p{${name}}$`, 'u');
  } catch {
    return undefined;
  }
  work(PROPERTY_WORK);
  const ranges: [number, number][] = [];
  for (let point = 0; point <= LAST_CODE_POINT; point++) {
    if (!expression.test(String.fromCodePoint(point))) continue;
    const last = ranges.at(-1);
    if (last?.[1] === point - 1) last[1] = point;
    else ranges.push([point, point]);
  }
  return ranges;
}
