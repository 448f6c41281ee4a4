import { isUtf8 } from 'node:buffer';
import { MAX_TOKEN_BYTES } from './limits.ts';

/** The bytes of every token, as they cross threads. */
export interface TokenBytes {
  /** Tokens of the model: as many as it has logits. */
  vocabSize: number;
  /** All bytes, one token after another. */
  bytes: Uint8Array;
  /** Token `id` has the bytes from `ends[id - 1]` to `ends[id]`; none: it stands for nothing. */
  ends: Uint32Array;
  /** 1: a token beside the vocabulary proper, such as `<|im_end|>`: allowed in literal text only. */
  added: Uint8Array;
}

/** Printable characters. */
const ASCII = Array.from({ length: 0x7f - 0x20 }, (_, i) => 0x20 + i);
/** Bytes of UTF-8 that end a character begun before. */
const CONTINUATIONS = Array.from({ length: 0x40 }, (_, i) => 0x80 + i);

/** Packs what tokens stand for. `bytesOf` gives undefined for ids that are no token. */
export function packTokens(
  vocabSize: number,
  bytesOf: (id: number) => Uint8Array | undefined,
  isAdded: (id: number) => boolean,
): TokenBytes {
  const tokens = Array.from({ length: vocabSize }, (_, id) => bytesOf(id) ?? new Uint8Array(0));
  const bytes = new Uint8Array(tokens.reduce((sum, token) => sum + token.length, 0));
  const ends = new Uint32Array(vocabSize);
  let end = 0;
  tokens.forEach((token, id) => {
    bytes.set(token, end);
    end += token.length;
    ends[id] = end;
  });
  return { vocabSize, bytes, ends, added: Uint8Array.from(tokens, (_, id) => (isAdded(id) ? 1 : 0)) };
}

/**
 * The vocabulary as a tree of bytes, its nodes in preorder: a walk visits what tokens have in common once, and skips what can't follow.
 */
export class Vocabulary {
  readonly vocabSize: number;
  /** Per node: its byte, its depth (from 0), the node after its subtree, the token that ends here or -1. */
  readonly byte: Uint8Array;
  readonly depth: Uint8Array;
  readonly after: Int32Array;
  readonly token: Int32Array;
  /** By token: others with the same bytes. */
  readonly same: ReadonlyMap<number, readonly number[]>;
  /** Added tokens, for literal text. */
  readonly added: readonly number[];
  /** Printable characters of ASCII that are no token by themselves: a text may need one and have no token to go on with. */
  readonly missing: readonly number[];
  readonly #source: TokenBytes;

  constructor(source: TokenBytes) {
    this.#source = source;
    this.vocabSize = source.vocabSize;
    const every = Array.from({ length: source.vocabSize }, (_, id) => id);
    const tokens = new Map(every.map((id) => [id, this.bytesOf(id)]));
    const usable = every.filter((id) => {
      const { length } = tokens.get(id) as Uint8Array;
      return source.added[id] === 0 && length > 0 && length <= MAX_TOKEN_BYTES;
    });
    const single = new Set(usable.flatMap((id) => (tokens.get(id)?.length === 1 ? [tokens.get(id)?.[0]] : [])));
    this.missing = ASCII.filter((byte) => !single.has(byte));
    // Whoever begins a character must be able to end it.
    const anyEnd = CONTINUATIONS.every((byte) => single.has(byte));
    const ids = anyEnd ? usable : usable.filter((id) => isUtf8(tokens.get(id) as Uint8Array));
    ids.sort((a, b) => Buffer.compare(tokens.get(a) as Uint8Array, tokens.get(b) as Uint8Array) || a - b);
    const tree = preorder(ids.map((id) => tokens.get(id) as Uint8Array));
    this.byte = tree.byte;
    this.depth = tree.depth;
    this.after = tree.after;
    this.token = new Int32Array(tree.byte.length).fill(-1);
    const same = new Map<number, number[]>();
    ids.forEach((id, i) => {
      const node = tree.nodeOf[i] as number;
      const first = this.token[node] as number;
      if (first === -1) this.token[node] = id;
      else same.set(first, [...(same.get(first) ?? []), id]);
    });
    this.same = same;
    this.added = every.filter((id) => source.added[id] === 1);
  }

  bytesOf(id: number): Uint8Array {
    const { bytes, ends } = this.#source;
    return bytes.subarray(id === 0 ? 0 : ends[id - 1], ends[id]);
  }
}

/** The tree of sorted byte strings; `nodeOf` gives the node at which each ends. */
function preorder(sorted: readonly Uint8Array[]): {
  byte: Uint8Array;
  depth: Uint8Array;
  after: Int32Array;
  nodeOf: Int32Array;
} {
  const bytes: number[] = [];
  const depths: number[] = [];
  const nodeOf = new Int32Array(sorted.length);
  let previous: Uint8Array = new Uint8Array(0);
  sorted.forEach((token, i) => {
    let common = 0;
    while (common < previous.length && common < token.length && previous[common] === token[common]) common++;
    for (let at = common; at < token.length; at++) {
      bytes.push(token[at] as number);
      depths.push(at);
    }
    // The same bytes again end at the same node: the last one made.
    nodeOf[i] = bytes.length - 1;
    previous = token;
  });
  const after = new Int32Array(bytes.length).fill(bytes.length);
  const open: number[] = [];
  depths.forEach((depth, node) => {
    while (open.length > depth) after[open.pop() as number] = node;
    open.push(node);
  });
  return { byte: Uint8Array.from(bytes), depth: Uint8Array.from(depths), after, nodeOf };
}
