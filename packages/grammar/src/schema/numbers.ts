/** Numbers within bounds, as automata over their digits. */
import { refuse } from '../grammar-error.ts';
import { GRAMMAR_LIMITS } from '../limits.ts';
import { buildDfa, type CharDfa } from '../regex/char-dfa.ts';

export interface Bound {
  value: number;
  exclusive: boolean;
}

export interface NumberRange {
  low: Bound | undefined;
  high: Bound | undefined;
  /** No point. */
  integer: boolean;
  /** 1: any. */
  multipleOf: number;
}

/** Digits of a bounded number: so many are the same number for every reader of doubles. */
const MAX_DIGITS = 15;

/** A bound on a magnitude, digits before and behind the point without idle zeros. */
interface Digits {
  whole: string;
  fraction: string;
  exclusive: boolean;
}

type Compared = -1 | 0 | 1;

interface Reading {
  negative: boolean;
  /** 'sign': nothing but a sign; 'point': the point was the last character. */
  phase: 'begin' | 'sign' | 'whole' | 'point' | 'fraction';
  zero: boolean;
  whole: number;
  fraction: number;
  low: Compared;
  high: Compared;
  remainder: number;
}

const BEGIN: Reading = {
  negative: false,
  phase: 'begin',
  zero: false,
  whole: 0,
  fraction: 0,
  low: 0,
  high: 0,
  remainder: 0,
};

/**
 * Decimal numbers without exponent, up to 15 digits, that lie in the range. Digits are compared with those of the bounds as they come:
 * a longer whole part is the larger number, equal lengths are decided by the first digit that differs.
 * @throws GrammarError when the bounds leave nothing
 */
export function numberDfa(range: NumberRange): CharDfa {
  const sides = { positive: magnitudes(range, false), negative: magnitudes(range, true) };
  if (sides.positive === undefined && sides.negative === undefined) {
    refuse('no number lies within its bounds');
  }
  const most = countedDigits(range.multipleOf, [sides.positive, sides.negative]);
  const sideOf = ({ negative }: Reading): Side | undefined => (negative ? sides.negative : sides.positive);
  return buildDfa<Reading>(
    BEGIN,
    (r) => `${r.negative}${r.phase}${r.zero}${r.whole}.${r.fraction},${r.low},${r.high},${r.remainder}`,
    (r) => accepts(r, sideOf(r)),
    (r) => {
      const steps: { low: number; high: number; to: Reading }[] = [];
      const add = (character: string, to: Reading | undefined): void => {
        const point = character.charCodeAt(0);
        if (to !== undefined && sideOf(to) !== undefined) steps.push({ low: point, high: point, to });
      };
      if (r.phase === 'begin') add('-', { ...r, negative: true, phase: 'sign' });
      if (r.phase === 'whole' && !range.integer && r.whole < most) add('.', pointAfter(r, sideOf(r)));
      for (let digit = 0; digit < 10; digit++) add(String(digit), digitAfter(r, digit, sideOf(r), range.multipleOf, most));
      return steps;
    },
  );
}

interface Side {
  low: Digits | undefined;
  high: Digits | undefined;
}

/** Digits of a number: fewer where remainders multiply the states, as many as the bounds have all the same. */
function countedDigits(multipleOf: number, sides: readonly (Side | undefined)[]): number {
  const bounds = sides.flatMap((side) => [side?.low, side?.high]).map((bound) => bound?.whole.length ?? 1);
  const affordable = Math.floor(GRAMMAR_LIMITS.patternStates / (4 * multipleOf));
  return Math.min(MAX_DIGITS, Math.max(affordable, ...bounds));
}

/** The range's part on one side of zero, as magnitudes; zero is positive. Undefined: it has none. */
function magnitudes({ low, high }: NumberRange, negative: boolean): Side | undefined {
  const [near, far] = negative ? [negate(high), negate(low)] : [low, high];
  if (far !== undefined && (far.value < 0 || (far.value === 0 && (far.exclusive || negative)))) return undefined;
  const above: Bound | undefined =
    near !== undefined && near.value > 0 ? near : negative ? { value: 0, exclusive: true } : near?.value === 0 ? near : undefined;
  return { low: above && digits(above), high: far && digits(far) };
}

function negate(bound: Bound | undefined): Bound | undefined {
  return bound && { value: -bound.value, exclusive: bound.exclusive };
}

/** The decimal digits of a magnitude, without an exponent. */
function digits({ value, exclusive }: Bound): Digits {
  const [mantissa = '0', exponent = '0'] = String(value).split('e');
  const [whole = '0', fraction = ''] = mantissa.split('.');
  const shift = Number(exponent);
  const all = whole + fraction;
  const point = whole.length + shift;
  const padded = all.padEnd(point, '0').padStart(all.length + Math.max(0, 1 - point), '0');
  const at = Math.max(point, 1);
  return {
    whole: padded.slice(0, at).replace(/^0+(?=\d)/, ''),
    fraction: padded.slice(at).replace(/0+$/, ''),
    exclusive,
  };
}

function digitAfter(r: Reading, digit: number, side: Side | undefined, multipleOf: number, most: number): Reading | undefined {
  if (side === undefined || r.whole + r.fraction >= most || (r.phase === 'whole' && r.zero)) return undefined;
  if (r.phase === 'point' || r.phase === 'fraction') {
    const compare = (state: Compared, bound: Digits | undefined): Compared =>
      state !== 0 || bound === undefined ? state : sign(digit - Number(bound.fraction[r.fraction] ?? '0'));
    return {
      ...r,
      phase: 'fraction',
      fraction: r.fraction + 1,
      low: compare(r.low, side?.low),
      high: compare(r.high, side?.high),
    };
  }
  const compare = (state: Compared, bound: Digits | undefined): Compared => {
    if (bound === undefined || state !== 0) return state;
    return sign(digit - Number(bound.whole[r.whole] ?? '0'));
  };
  return {
    ...r,
    phase: 'whole',
    zero: digit === 0 && r.phase !== 'whole',
    whole: r.whole + 1,
    low: compare(r.low, side?.low),
    high: compare(r.high, side?.high),
    remainder: (r.remainder * 10 + digit) % multipleOf,
  };
}

/** The whole part is over: its length decides first. */
function settled(state: Compared, length: number, bound: Digits | undefined): Compared {
  return bound === undefined || length === bound.whole.length ? state : sign(length - bound.whole.length);
}

function pointAfter(r: Reading, side: Side | undefined): Reading {
  return { ...r, phase: 'point', low: settled(r.low, r.whole, side?.low), high: settled(r.high, r.whole, side?.high) };
}

function accepts(r: Reading, side: Side | undefined): boolean {
  if (side === undefined || r.remainder !== 0) return false;
  if (r.phase !== 'whole' && r.phase !== 'fraction') return false;
  const ended = r.phase === 'whole' ? pointAfter(r, side) : r;
  const compare = (state: Compared, bound: Digits): Compared => (state === 0 && r.fraction < bound.fraction.length ? -1 : state);
  const { low, high } = side;
  if (low !== undefined) {
    const is = compare(ended.low, low);
    if (is < 0 || (is === 0 && low.exclusive)) return false;
  }
  if (high === undefined) return true;
  const is = compare(ended.high, high);
  return is < 0 || (is === 0 && !high.exclusive);
}

function sign(value: number): Compared {
  return value < 0 ? -1 : value > 0 ? 1 : 0;
}
