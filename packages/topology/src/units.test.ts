import { expect, test } from 'vitest';
import { formatBytes, parseCores, parseDurationMs } from './index.ts';

test.each([
  ['30s', 30_000],
  ['1.5s', 1500],
  ['500ms', 500],
  ['2m', 120_000],
  ['1 h', 3_600_000],
  ['30', undefined],
  ['-1s', undefined],
  ['s', undefined],
  ['', undefined],
])('duration %j is %j ms', (text, expected) => expect(parseDurationMs(text)).toBe(expected));

test.each([
  ['0-3,8', [0, 1, 2, 3, 8]],
  ['5', [5]],
  ['2,1,1', [1, 2]],
  ['3-1', undefined],
  ['0-99999999', undefined],
  ['a', undefined],
  ['', undefined],
])('cores %j are %j', (text, expected) => expect(parseCores(text)).toEqual(expected));

test.each([
  [0, '0 B'],
  [1023, '1023 B'],
  [14_131, '13.8 KiB'],
  [512 * 1024 ** 2, '512 MiB'],
])('%i bytes read %j', (bytes, expected) => expect(formatBytes(bytes)).toBe(expected));
