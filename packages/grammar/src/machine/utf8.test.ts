import fc from 'fast-check';
import { expect, test } from 'vitest';
import { utf8Ranges } from './utf8.ts';

const point = fc.oneof(
  fc.integer({ min: 0, max: 0x10ffff }),
  fc.constantFrom(0, 0x7f, 0x80, 0x7ff, 0x800, 0xd7ff, 0xd800, 0xdfff, 0xe000, 0xffff, 0x10000, 0x10ffff),
);

test('a range of code points is the UTF-8 of these and of no others', () => {
  fc.assert(
    fc.property(point, point, fc.array(point, { minLength: 20 }), (a, b, tried) => {
      const [low, high] = [Math.min(a, b), Math.max(a, b)];
      const runs = utf8Ranges(low, high);
      for (const one of [...tried, low, high]) {
        const surrogate = one >= 0xd800 && one <= 0xdfff;
        const bytes = surrogate
          ? [0xe0 | (one >> 12), 0x80 | ((one >> 6) & 0x3f), 0x80 | (one & 0x3f)]
          : [...Buffer.from(String.fromCodePoint(one))];
        const matching = runs.filter(
          (run) => run.length === bytes.length && run.every(([from, to], i) => bytes[i]! >= from && bytes[i]! <= to),
        );
        expect(matching).toHaveLength(!surrogate && one >= low && one <= high ? 1 : 0);
      }
    }),
  );
});
