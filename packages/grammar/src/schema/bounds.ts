/** What the keywords of numbers say together. */
import { unsupported } from '../grammar-error.ts';
import { GRAMMAR_LIMITS } from '../limits.ts';
import { keyword, placeOf, type SchemaNode } from './node.ts';
import type { Bound } from './numbers.ts';

export interface Bounds {
  low: Bound | undefined;
  high: Bound | undefined;
  multipleOf: number;
  /** `multipleOf` is given: whole numbers. */
  multiple: boolean;
}

/** The strictest bounds of all parts. @throws GrammarError for a `multipleOf` that is not supported */
export function boundsOf(node: SchemaNode): Bounds {
  const bounds = (inclusive: string, exclusive: string): Bound[] => [
    ...keyword<number>(node, inclusive).map((value) => ({ value, exclusive: false })),
    ...keyword<number>(node, exclusive).map((value) => ({ value, exclusive: true })),
  ];
  const stricter = (a: Bound, b: Bound): Bound => (a.value === b.value && b.exclusive ? b : a);
  const int32 = keyword<string>(node, 'format').includes('int32') ? [2 ** 31 - 1] : [];
  const lows = [...bounds('minimum', 'exclusiveMinimum'), ...int32.map((most) => ({ value: -most - 1, exclusive: false }))];
  const highs = [...bounds('maximum', 'exclusiveMaximum'), ...int32.map((value) => ({ value, exclusive: false }))];
  const multiples = keyword<number>(node, 'multipleOf');
  for (const value of multiples) {
    if (Number.isInteger(value) && value <= GRAMMAR_LIMITS.multipleOf) continue;
    unsupported(
      `"multipleOf" ${value} at ${placeOf(node)} is not supported: it must be a whole number up to ${GRAMMAR_LIMITS.multipleOf}`,
    );
  }
  const multipleOf = multiples.reduce(leastCommonMultiple, 1);
  if (multipleOf > GRAMMAR_LIMITS.multipleOf) {
    unsupported(
      `"multipleOf" ${multiples.join(' and ')} together, at ${placeOf(node)}, are not supported: multiples of ${multipleOf}, at most ${GRAMMAR_LIMITS.multipleOf} is`,
    );
  }
  return {
    low: lows.length === 0 ? undefined : lows.reduce((a, b) => (b.value > a.value ? b : stricter(a, b))),
    high: highs.length === 0 ? undefined : highs.reduce((a, b) => (b.value < a.value ? b : stricter(a, b))),
    multipleOf,
    multiple: multiples.length > 0,
  };
}

function leastCommonMultiple(a: number, b: number): number {
  let [x, y] = [a, b];
  while (y !== 0) [x, y] = [y, x % y];
  return (a / x) * b;
}
