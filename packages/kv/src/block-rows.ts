/** The parts of a page in a chip's own layout as rows in the kernels' memory, one for each token: [head][dimension]. */
import { kernels } from './kernels.ts';
import { LINE_BYTES, type PagedPart, partBytes } from './page-form.ts';
import { FACTOR_BYTES, partNumberBytes } from './stored-parts.ts';

/** The row of token t begins at address at + t * stride. */
export interface Rows {
  at: number;
  stride: number;
}

export class BlockRows {
  readonly #page: Uint8Array;
  /** Address of an area for a part as the page has it. */
  readonly #stage: number;

  constructor(page: Uint8Array, stage: number) {
    this.#page = page;
    this.#stage = stage;
  }

  /** Page to rows: a part's numbers, and its factors if it has some. */
  read(part: PagedPart, numbers: Rows, factors: Rows): void {
    this.#numbers(part, numbers, false);
    this.#factors(part, factors, false);
  }

  /** Rows to page. */
  write(part: PagedPart, numbers: Rows, factors: Rows): void {
    this.#numbers(part, numbers, true);
    this.#factors(part, factors, true);
  }

  #numbers(part: PagedPart, rows: Rows, write: boolean): void {
    const { layout, blockTokens, heads, offset } = part;
    const row = partNumberBytes(part);
    const size = partBytes(part, part);
    if (layout === 'NHD' && rows.stride === row) return this.#copy(offset, size, rows.at, write);
    if (!write) this.#copy(offset, size, this.#stage, false);
    if (layout === 'NHD') moveRuns(this.#stage, row, rows, 0, blockTokens, row, write);
    else if (layout === 'HND') {
      const run = row / heads;
      for (let head = 0; head < heads; head++) {
        moveRuns(this.#stage + head * blockTokens * run, run, rows, head * run, blockTokens, run, write);
      }
    } else {
      for (let column = 0; column * LINE_BYTES < row; column++) {
        const start = this.#stage + column * blockTokens * LINE_BYTES;
        const used = Math.min(LINE_BYTES, row - column * LINE_BYTES);
        if (write && used < LINE_BYTES)
          kernels()
            .view(start, blockTokens * LINE_BYTES)
            .fill(0);
        moveRuns(start, LINE_BYTES, rows, column * LINE_BYTES, blockTokens, used, write);
      }
    }
    if (write) this.#copy(offset, size, this.#stage, true);
  }

  /** [token][head] in NHD, [head][token] in the others. */
  #factors(part: PagedPart, rows: Rows, write: boolean): void {
    if (part.factors === undefined) return;
    const { layout, blockTokens, heads, factors } = part;
    const row = heads * FACTOR_BYTES;
    if (!write) this.#copy(factors, blockTokens * row, this.#stage, false);
    if (layout === 'NHD') moveRuns(this.#stage, row, rows, 0, blockTokens, row, write);
    else {
      for (let head = 0; head < heads; head++) {
        const start = this.#stage + head * blockTokens * FACTOR_BYTES;
        moveRuns(start, FACTOR_BYTES, rows, head * FACTOR_BYTES, blockTokens, FACTOR_BYTES, write);
      }
    }
    if (write) this.#copy(factors, blockTokens * row, this.#stage, true);
  }

  /** Bytes of the page to the kernels' memory, or back. */
  #copy(offset: number, bytes: number, at: number, write: boolean): void {
    if (write) this.#page.set(kernels().view(at, bytes), offset);
    else kernels().put(this.#page.subarray(offset, offset + bytes), at);
  }
}

/** `count` runs of `bytes` bytes: `stride` apart from `staged` on, and byte `first` of each row. */
function moveRuns(staged: number, stride: number, rows: Rows, first: number, count: number, bytes: number, write: boolean): void {
  const { run } = kernels();
  if (write) run.copyRuns(rows.at + first, staged, count, bytes, rows.stride, stride);
  else run.copyRuns(staged, rows.at + first, count, bytes, stride, rows.stride);
}
