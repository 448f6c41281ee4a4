import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { lastLines, lastWords } from './last-lines.ts';

const folder = mkdtempSync(join(tmpdir(), 'causeway-lines-'));
afterAll(() => rmSync(folder, { recursive: true }));

function file(text: string): string {
  const path = join(folder, 'some.log');
  writeFileSync(path, text);
  return path;
}

test.each([
  ['nothing', '', 3, []],
  ['no line end', 'one', 3, ['one']],
  ['fewer lines than asked for', 'one\ntwo\n', 3, ['one', 'two']],
  ['more lines', 'one\ntwo\nthree\nfour\n', 2, ['three', 'four']],
  ['a last line without its end', 'one\ntwo\nthr', 2, ['two', 'thr']],
  ['empty lines', '\n\n\n', 2, ['', '']],
  ['none wanted', 'one\ntwo\n', 0, []],
])('of %s', (_what, text, count, expected) => expect(lastLines(file(text), count)).toEqual(expected));

test('go back further than one block, and split no character', () => {
  const lines = Array.from({ length: 20_000 }, (_, i) => `${i} ${'ü€😀'.repeat(i % 7)}`);
  const path = file(`${lines.join('\n')}\n`);
  for (const count of [1, 999, 12_345, 20_000, 100_000]) expect(lastLines(path, count)).toEqual(lines.slice(-count));
});

test('are cut to 400 characters, however long', () => {
  const long = '€'.repeat(300_000);
  expect(lastLines(file(`first\n${long}\nlast\n`), 3)).toEqual(['first', `${'€'.repeat(399)}…`, 'last']);
  expect(lastLines(file(`${'x'.repeat(400)}\n`), 1)).toEqual(['x'.repeat(400)]);
});

test('a file that is not there has none; frames of a stack are not words', () => {
  expect(lastLines(join(folder, 'absent.log'), 5)).toEqual([]);
  expect(lastWords(file('Error: no\n    at f (x.ts:1)\n\nNode.js v24.21.0\n'), 5)).toEqual(['Error: no']);
});
