import { closeSync, fstatSync, openSync, readSync } from 'node:fs';

const BLOCK = 64 * 1024;
const SHOWN = 400;
/** A UTF-16 unit takes three bytes at most. */
const SHOWN_BYTES = 3 * (SHOWN + 1);
const LINE_END = 0x0a;

/** Lines that say where in the program, not what went wrong. */
const STACK = /^(\s+at .*|Node\.js v[\d.]+|)$/;

/** The last lines of a file that tell a person something: as `lastLines`, without the frames of a stack. */
export function lastWords(path: string, count: number): string[] {
  return lastLines(path, 100)
    .filter((line) => !STACK.test(line))
    .slice(-count);
}

/** The last lines of a file, each cut to 400 characters; reads backwards as far as they go. Empty when it cannot be read. */
export function lastLines(path: string, count: number): string[] {
  let file: number;
  try {
    file = openSync(path, 'r');
  } catch {
    return [];
  }
  try {
    const size = fstatSync(file).size;
    const starts = lineStarts(file, size, count);
    return starts.map((start, i) => lineAt(file, start, starts[i + 1] ?? size));
  } finally {
    closeSync(file);
  }
}

/** Where the last lines begin, ascending. */
function lineStarts(file: number, size: number, count: number): number[] {
  const starts: number[] = [];
  const block = Buffer.alloc(Math.min(BLOCK, size));
  // The last byte is looked at no more: it ends the last line, or is a part of it.
  let from = Math.max(0, size - 1);
  while (from > 0 && starts.length < count) {
    const to = from;
    from = Math.max(0, to - block.length);
    const read = readSync(file, block, 0, to - from, from);
    for (let at = last(block, read); at !== -1 && starts.length < count; at = last(block, at)) starts.push(from + at + 1);
  }
  if (from === 0 && size > 0 && starts.length < count) starts.push(0);
  return starts.reverse();
}

/** The last line end among the first `length` bytes. */
function last(block: Buffer, length: number): number {
  return block.subarray(0, length).lastIndexOf(LINE_END);
}

/** The line in [start, end), without its end. */
function lineAt(file: number, start: number, end: number): string {
  const bytes = Buffer.alloc(Math.min(SHOWN_BYTES, end - start));
  const read = readSync(file, bytes, 0, bytes.length, start);
  const line = bytes.toString('utf8', 0, read).replace(/\n$/, '');
  return line.length > SHOWN ? `${line.slice(0, SHOWN - 1)}…` : line;
}
