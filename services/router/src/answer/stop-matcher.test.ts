import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { StopMatcher } from './stop-matcher.ts';

/** Feeds pieces; gives what came out and whether it stopped. */
function run(stops: readonly string[], pieces: readonly string[]): { text: string; stopped: boolean } {
  const matcher = new StopMatcher(stops);
  let text = '';
  for (const piece of pieces) {
    const match = matcher.push(piece);
    text += match.text;
    if (match.stopped) return { text, stopped: true };
  }
  return { text: text + matcher.flush(), stopped: false };
}

describe('StopMatcher', () => {
  it('passes text through at once when there is no stop string', () => {
    expect(new StopMatcher([]).push('abc')).toEqual({ text: 'abc', stopped: false });
  });

  it('holds back only what may begin a stop string', () => {
    const matcher = new StopMatcher(['\n\nUser:']);
    expect(matcher.push('hello\n')).toEqual({ text: 'hello', stopped: false });
    expect(matcher.push('\nUs')).toEqual({ text: '', stopped: false });
    expect(matcher.push('ed')).toEqual({ text: '\n\nUsed', stopped: false });
  });

  it('passes over what ends before it may stop, and finds what only begins there', () => {
    const matcher = new StopMatcher(['ab', 'xyz']);
    expect(matcher.push('ab-', false)).toEqual({ text: 'ab-', stopped: false });
    expect(matcher.push('ab-xy', false)).toEqual({ text: 'ab-', stopped: false });
    expect(matcher.push('z')).toEqual({ text: '', stopped: true });
    const nested = new StopMatcher(['ab', 'abab']);
    expect(nested.push('ab', false)).toEqual({ text: '', stopped: false });
    expect(nested.push('c')).toEqual({ text: 'abc', stopped: false });
  });

  it('takes the earliest of several stop strings, also inside one piece', () => {
    expect(run(['cd', 'bcx', 'b'], ['abcd'])).toEqual({ text: 'a', stopped: true });
  });

  it('never holds text that completes no stop string at the end', () => {
    expect(run(['abcabd'], ['xabcab', 'c'])).toEqual({ text: 'xabcabc', stopped: false });
  });

  it('gives what a search over the whole text gives, however the text is cut', () => {
    const letters = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 40 });
    const stop = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), minLength: 1, maxLength: 5 });
    fc.assert(
      fc.property(letters, fc.array(stop, { minLength: 1, maxLength: 4 }), fc.array(fc.nat(40)), (text, stops, cuts) => {
        const at = [0, ...cuts.map((cut) => Math.min(cut, text.length)).toSorted((a, b) => a - b), text.length];
        const pieces = at.slice(1).map((end, i) => text.slice(at[i], end));
        // The stop string that is completed first ends the answer; among those completed by one piece, the earliest.
        const result = run(stops, pieces);
        const ends = stops.map((s) => text.indexOf(s)).filter((index) => index !== -1);
        expect(result.stopped).toBe(ends.length > 0);
        if (!result.stopped) expect(result.text).toBe(text);
        else {
          expect(text.startsWith(result.text)).toBe(true);
          const rest = text.slice(result.text.length);
          expect(stops.some((s) => rest.startsWith(s))).toBe(true);
        }
        expect(stops.some((s) => result.text.includes(s))).toBe(false);
      }),
    );
  });
});
