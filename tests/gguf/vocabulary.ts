/** Byte-level BPE vocabularies as published GGUF files have them: ordinary pieces first, then the family's own tokens at the end. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** ggml's token types (llama.h, llama_token_type). */
export const TOKEN_TYPE = { normal: 1, control: 3, userDefined: 4, unused: 5 } as const;

export interface Vocabulary {
  tokens: readonly string[];
  types: readonly number[];
  /** `left right`, the earlier the sooner merged. */
  merges: readonly string[];
  /** @throws Error when there is no such token. */
  id(token: string): number;
  /** UTF-8 of a token; of the family's own tokens that is their name. */
  bytes(id: number): number[];
}

/** The byte that each of GPT-2's printable stand-ins is for (openai/gpt-2, encoder.py, bytes_to_unicode). */
const BYTES: ReadonlyMap<string, number> = (() => {
  const printable = (byte: number): boolean => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  let next = 256;
  return new Map(Array.from({ length: 256 }, (_, byte) => [String.fromCharCode(printable(byte) ? byte : next++), byte]));
})();

export interface SpecialToken {
  text: string;
  type: number;
}

interface Pieces {
  tokens: string[];
  merges: string[];
}

/** The bytes and merged pieces of the built-in model's tokenizer, which was trained on prose. */
function builtInPieces(): Pieces {
  const path = join(import.meta.dirname, '../../models/tiny-moe/tokenizer.json');
  const { model, added_tokens: added } = JSON.parse(readFileSync(path, 'utf8')) as {
    model: { vocab: Record<string, number>; merges: [string, string][] };
    added_tokens: { content: string }[];
  };
  const special = new Set(added.map(({ content }) => content));
  const ordered = Object.entries(model.vocab).toSorted(([, a], [, b]) => a - b);
  return {
    tokens: ordered.map(([token]) => token).filter((token) => !special.has(token)),
    merges: model.merges.map((pair) => pair.join(' ')),
  };
}

/**
 * The built-in pieces and `special` tokens. With `size` there are as many tokens in all: pairs of pieces are added before the special
 * ones; `padding` of the size are tokens `[PAD<id>]` behind them, as converters write those that a model has no text for.
 */
export function vocabulary(special: readonly SpecialToken[], o: { size?: number; padding?: number } = {}): Vocabulary {
  const { tokens, merges } = builtInPieces();
  const { padding = 0 } = o;
  const ordinary = o.size === undefined ? tokens.length : o.size - special.length - padding;
  const known = new Set(tokens);
  const base = [...tokens];
  for (const left of base) {
    for (const right of base) {
      if (tokens.length >= ordinary) break;
      if (known.has(left + right)) continue;
      known.add(left + right);
      tokens.push(left + right);
      merges.push(`${left} ${right}`);
    }
  }
  if (tokens.length !== ordinary) throw new Error(`a vocabulary of ${tokens.length} pieces can't have ${ordinary}`);
  const types = [...tokens.map(() => TOKEN_TYPE.normal), ...special.map(({ type }) => type)];
  tokens.push(...special.map(({ text }) => text));
  for (let i = 0; i < padding; i++) types.push(TOKEN_TYPE.unused);
  for (let i = 0; i < padding; i++) tokens.push(`[PAD${tokens.length}]`);
  return {
    tokens,
    types,
    merges,
    id: (token) => {
      const id = tokens.indexOf(token);
      if (id === -1) throw new Error(`there is no token ${token}`);
      return id;
    },
    bytes: (id) => {
      const token = tokens[id] ?? '';
      return types[id] === TOKEN_TYPE.normal ? Array.from(token, (letter) => BYTES.get(letter) ?? -1) : [...Buffer.from(token)];
    },
  };
}
