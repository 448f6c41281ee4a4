import { closeSync, fstatSync, openSync, readSync } from 'node:fs';

const WINDOW = 64 * 1024;

/** Lines that say where in the program, not what went wrong. */
const STACK = /^(\s+at .*|Node\.js v[\d.]+|)$/;

/** The last lines of a file that tell a person something: as `lastLines`, without the frames of a stack. */
export function lastWords(path: string, count: number): string[] {
  return lastLines(path, 100)
    .filter((line) => !STACK.test(line))
    .slice(-count);
}

/** The last lines of a file, each cut to 400 characters; reads at most its last 64 KiB. Empty when it cannot be read. */
export function lastLines(path: string, count: number): string[] {
  let file: number;
  try {
    file = openSync(path, 'r');
  } catch {
    return [];
  }
  try {
    const size = fstatSync(file).size;
    const buffer = Buffer.alloc(Math.min(size, WINDOW));
    const read = readSync(file, buffer, 0, buffer.length, size - buffer.length);
    const lines = buffer.toString('utf8', 0, read).split('\n');
    if (lines.at(-1) === '') lines.pop();
    return lines.slice(-count).map((line) => (line.length > 400 ? `${line.slice(0, 399)}…` : line));
  } finally {
    closeSync(file);
  }
}
