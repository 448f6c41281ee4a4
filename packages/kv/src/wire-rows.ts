/** The parts of a page in wire order: all heads of a token, then their factors. A shard reads and writes its own heads. */
import { fail } from '@causeway/errors';
import { hasFactors } from './descriptor.ts';
import { kernels } from './kernels.ts';
import { FACTOR_BYTES, partNumberBytes, type StoredPart } from './stored-parts.ts';

/** A part in a page in wire order, with all heads. */
export interface WirePart extends StoredPart {
  offset: number;
  rowBytes: number;
}

/** Heads of a part that a shard has. */
export interface OwnHeads {
  firstHead: number;
  heads: number;
}

export class WireRows {
  readonly #wire: Uint8Array;
  readonly #tokens: number;
  /** Address of an area for a part, in wire order. */
  readonly #area: number;

  constructor(wire: Uint8Array, tokens: number, area: number) {
    this.#wire = wire;
    this.#tokens = tokens;
    this.#area = area;
  }

  /** Addresses of the shard's first number and first factor in the area. */
  places(part: WirePart, own: OwnHeads): { numbers: number; factors: number } {
    return {
      numbers: this.#area + own.firstHead * headBytes(part),
      factors: this.#area + partNumberBytes(part) + own.firstHead * FACTOR_BYTES,
    };
  }

  /**
   * Takes a part into the area.
   * @throws ServiceError `malformed_frame` for a factor of the shard's heads that makes no numbers of codes
   */
  load(part: WirePart, own: OwnHeads): void {
    kernels().put(this.#wire.subarray(part.offset, part.offset + part.rowBytes * this.#tokens), this.#area);
    if (hasFactors(part.dtype)) this.#checkFactors(part, own);
  }

  /** Puts the shard's heads where they belong in the page, from the area. */
  flush(part: WirePart, own: OwnHeads): void {
    const { numbers, factors } = this.places(part, own);
    const bytes = part.rowBytes * this.#tokens;
    if (own.heads === part.heads) return this.#wire.set(kernels().view(this.#area, bytes), part.offset);
    this.#scatter(part, numbers, own.heads * headBytes(part));
    if (hasFactors(part.dtype)) this.#scatter(part, factors, own.heads * FACTOR_BYTES);
  }

  /** Address of the shard's numbers one token right after the other; they and their factors are moved there unless they lie so already. */
  read(part: WirePart, own: OwnHeads, numbers: number, factors: number): number {
    const places = this.places(part, own);
    const { run } = kernels();
    const bytes = own.heads * headBytes(part);
    if (bytes === part.rowBytes) return places.numbers;
    run.copyRuns(places.numbers, numbers, this.#tokens, bytes, part.rowBytes, bytes);
    const factorBytes = own.heads * FACTOR_BYTES;
    if (hasFactors(part.dtype)) {
      run.copyRuns(places.factors, factors, this.#tokens, factorBytes, part.rowBytes, factorBytes);
    }
    return numbers;
  }

  /** Puts the shard's numbers, one token right after the other, and their factors where they belong in the page. */
  write(part: WirePart, own: OwnHeads, numbers: number, factors: number): void {
    const bytes = own.heads * headBytes(part);
    if (bytes === part.rowBytes) return this.#wire.set(kernels().view(numbers, bytes * this.#tokens), part.offset);
    const places = this.places(part, own);
    const { run } = kernels();
    run.copyRuns(numbers, places.numbers, this.#tokens, bytes, bytes, part.rowBytes);
    const factorBytes = own.heads * FACTOR_BYTES;
    if (hasFactors(part.dtype)) {
      run.copyRuns(factors, places.factors, this.#tokens, factorBytes, factorBytes, part.rowBytes);
    }
    this.flush(part, own);
  }

  /** The same bytes of every row from the area to the page: what is between them is other shards', who may be writing it. */
  #scatter(part: WirePart, from: number, bytes: number): void {
    const { buffer } = kernels().bytes;
    const length = (part.rowBytes * this.#tokens) / 4;
    const area = new Uint32Array(buffer, this.#area, length);
    const page = new Uint32Array(this.#wire.buffer, this.#wire.byteOffset + part.offset, length);
    const stride = part.rowBytes / 4;
    for (let at = (from - this.#area) / 4; at < length; at += stride) {
      for (let word = at; word < at + bytes / 4; word++) page[word] = area[word] as number;
    }
  }

  #checkFactors(part: WirePart, { firstHead, heads }: OwnHeads): void {
    const rows = new Float32Array(kernels().bytes.buffer, this.#area, (part.rowBytes * this.#tokens) / FACTOR_BYTES);
    const stride = part.rowBytes / FACTOR_BYTES;
    const first = partNumberBytes(part) / FACTOR_BYTES + firstHead;
    for (let token = 0; token < this.#tokens; token++) {
      for (let head = 0; head < heads; head++) {
        const factor = rows[token * stride + first + head] as number;
        if (factor >= 0 && factor < Number.POSITIVE_INFINITY) continue;
        const where = `token ${token} of the block, head ${firstHead + head}`;
        fail('invalid_argument', 'malformed_frame', `the factor of ${where} is ${factor}: factors are finite and not negative`);
      }
    }
  }
}

/** Bytes of one head's numbers of one token. */
function headBytes(part: StoredPart): number {
  return partNumberBytes(part) / part.heads;
}
