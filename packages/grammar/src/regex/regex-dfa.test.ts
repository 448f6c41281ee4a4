import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { GrammarError } from '../grammar-error.ts';
import { matches } from './char-dfa.ts';
import { beginWork } from '../work.ts';
import { patternDfa } from './regex-dfa.ts';

const PATTERNS = [
  'a|bc|',
  '^a{2,3}b?$',
  '(?:ab|a)*c+?',
  '[^a-c\\d]+',
  '[\\w-]{1,3}|\\s\\S',
  '\\d{3}(-\\d{2}){0,2}',
  '^$|^x.y$',
  'a(?<name>b|c){2}',
  '[]a]|[^]b',
  '\\u0061\\x62\\u{63}|\\cJ',
  '\\p{Lu}\\P{L}|é',
  '.\\.',
  '^(?=.*b)(?!.*cc)[abc]+$',
  '(?!a)(?=.b).+',
  'a{2}{3}|}{',
  'x*y{0}',
] as const;
const LETTERS = ['a', 'b', 'c', 'x', 'y', 'A', 'É', 'é', '1', '-', '.', ' ', '\n', '😀', ']', '{', '}', '\\'];

function refusal(pattern: string): string {
  beginWork();
  try {
    patternDfa(pattern);
  } catch (error) {
    if (error instanceof GrammarError) return error.message;
    throw error;
  }
  return '';
}

describe('patternDfa', () => {
  it.each(PATTERNS.filter((pattern) => legal(pattern)))('reads what ECMAScript matches as a whole: %s', (pattern) => {
    beginWork();
    const whole = patternDfa(pattern);
    const found = patternDfa(pattern, 'found');
    const lookahead = pattern.includes('(?=') || pattern.includes('(?!');
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...LETTERS), maxLength: 7 }), (text) => {
        expect(matches(whole, text), JSON.stringify(text)).toBe(new RegExp(`^(?:${pattern})$`, 'v').test(text));
        // A look-ahead is only held to at the beginning: fewer texts then.
        const anywhere = new RegExp(pattern, 'v').test(text);
        if (lookahead) expect(matches(found, text) && !anywhere, JSON.stringify(text)).toBe(false);
        else expect(matches(found, text), JSON.stringify(text)).toBe(anywhere);
      }),
      { numRuns: 600 },
    );
  });

  it.each([
    ['(a', 'a "\\)" is missing'],
    ['a)', '"\\)" too many'],
    ['*a', 'nothing to repeat'],
    ['a**', 'nothing to repeat'],
    ['[a', '"\\]" is missing'],
    ['[b-a]', 'out of order'],
    ['a{3,2}', 'out of order'],
    ['\\', 'ends with'],
    ['\\u{110000}', 'no code point'],
    ['\\p{Nonsense}', 'no Unicode property'],
    ['(?~a)', 'begins with "\\(\\?"'],
    ['\\bword', 'word boundary \\\\b is not supported'],
    ['(a)\\1', 'back-reference'],
    ['a(?=b)', 'look-ahead elsewhere'],
    ['(?<=a)b', 'look-behind'],
    ['(((a{100}){100}){100})', 'too large'],
    ['(a|aa){0,3000}b', 'too complex'],
    ['[ab]*a[ab]{16}', 'too (large|complex)'],
    ['('.repeat(5000), 'deeper than 100'],
  ])('refuses %s', (pattern, why) => {
    expect(refusal(pattern)).toMatch(new RegExp(why));
  });
});

function legal(pattern: string): boolean {
  try {
    return new RegExp(pattern, 'v') instanceof RegExp;
  } catch {
    return false;
  }
}
