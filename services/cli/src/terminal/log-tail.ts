import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { StringDecoder } from 'node:string_decoder';

const MAX_READ = 1 << 20;

/** Reads what is appended to a file. A file that became shorter (truncated by a new start) is read from its beginning. */
export class LogTail implements Disposable {
  readonly #file: number;
  readonly #decoder = new StringDecoder('utf8');
  #position: number;

  /** @param from where to begin; default the beginning. Throws when there is no such file. */
  constructor(path: string, from = 0) {
    this.#file = openSync(path, 'r');
    this.#position = from;
  }

  /** What was added since the last call, at most 1 MiB; whole characters only. Empty when there is nothing new. */
  read(): string {
    const size = fstatSync(this.#file).size;
    if (size < this.#position) this.#position = 0;
    const buffer = Buffer.alloc(Math.min(MAX_READ, size - this.#position));
    const count = readSync(this.#file, buffer, 0, buffer.length, this.#position);
    this.#position += count;
    return this.#decoder.write(buffer.subarray(0, count));
  }

  [Symbol.dispose](): void {
    closeSync(this.#file);
  }
}
