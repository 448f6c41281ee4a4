import fc from 'fast-check';
import { expect, test } from 'vitest';
import { decodeRegistration } from './worker-record.ts';

test('no value makes the reader throw, and nothing malformed becomes a registration', () => {
  const json = fc.json();
  const value = fc.oneof(
    fc.string(),
    json,
    fc.tuple(json, json).map(([a, b]) => `${a}\n${b}`),
    fc.string({ unit: 'binary' }),
  );
  fc.assert(
    fc.property(value, (text) => {
      expect(decodeRegistration('id', text, undefined).kind).toBe('rubbish');
    }),
    { numRuns: 500 },
  );
});
