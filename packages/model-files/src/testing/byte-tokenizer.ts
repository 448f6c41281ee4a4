/** A byte-level BPE tokenizer as GGUF metadata, small enough to compute by hand. */
import type { GgufValue } from '../gguf-reader.ts';

/** GPT-2's printable stand-in for each byte (openai/gpt-2, encoder.py, bytes_to_unicode). */
export const BYTE_LETTERS: readonly string[] = (() => {
  const printable = (byte: number): boolean => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(printable(byte) ? byte : next++));
})();

/** Ids 0..255 are the bytes; then come merged tokens, then these. */
export const MERGED = ['he', 'll', '12', 'hell'] as const;
export const FIRST_ADDED = 256 + MERGED.length;
export const BOS = FIRST_ADDED;
export const EOS = FIRST_ADDED + 1;
export const USER_DEFINED = FIRST_ADDED + 2;

/** Metadata with fields replaced. */
export function byteTokenizerMetadata(changes: Readonly<Record<string, GgufValue>> = {}): Map<string, GgufValue> {
  const tokens = [...BYTE_LETTERS, ...MERGED, '<bos>', '<eos>', '<tool>'];
  return new Map<string, GgufValue>([
    ['tokenizer.ggml.model', 'gpt2'],
    ['tokenizer.ggml.pre', 'smollm'],
    ['tokenizer.ggml.tokens', tokens],
    ['tokenizer.ggml.token_type', tokens.map((_, id) => (id < FIRST_ADDED ? 1 : id === USER_DEFINED ? 4 : 3))],
    ['tokenizer.ggml.merges', ['h e', 'l l', '1 2', 'he ll']],
    ['tokenizer.ggml.bos_token_id', BOS],
    ['tokenizer.ggml.eos_token_id', EOS],
    ...Object.entries(changes),
  ]);
}
