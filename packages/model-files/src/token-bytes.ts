/** What single tokens stand for: a part of a character too, which decoding would show as U+FFFD. */
import { stepsOf } from './token-length.ts';
import type { TokenizerSource } from './tokenizer-source.ts';

/** Byte fallback: a token for a byte. */
const BYTE_TOKEN = /^<0x([0-9A-Fa-f]{2})>$/;

/**
 * UTF-8 of each token by itself; a special token's is its name, and undefined is no token at all. `textOf` gives a token as the
 * vocabulary has it, `decode` its text, for decoders that are not known here.
 */
export function tokenBytesOf(
  { tokenizer }: TokenizerSource,
  textOf: (id: number) => string | undefined,
  decode: (id: number) => string,
): (id: number) => Uint8Array | undefined {
  const added = Array.isArray(tokenizer.added_tokens) ? (tokenizer.added_tokens as { id?: unknown }[]) : [];
  const literal = new Set(added.map(({ id }) => id));
  const steps = new Set(stepsOf(tokenizer.decoder, 'decoders').map(({ type }) => type));
  const inner = steps.has('ByteLevel') ? byteLevel() : steps.has('ByteFallback') || steps.has('Metaspace') ? pieces : undefined;
  return (id) => {
    const text = textOf(id);
    if (text === undefined) return undefined;
    if (literal.has(id)) return Buffer.from(text);
    return inner?.(text) ?? Buffer.from(decode(id));
  };
}

/** SentencePiece: spaces are U+2581. */
function pieces(text: string): Uint8Array {
  const byte = BYTE_TOKEN.exec(text)?.[1];
  return byte === undefined ? Buffer.from(text.replaceAll('\u2581', ' ')) : Uint8Array.of(Number.parseInt(byte, 16));
}

/** GPT-2's alphabet: a printable character for every byte; the others follow from U+0100 on. */
function byteLevel(): (text: string) => Uint8Array {
  const bytes = new Map<string, number>();
  let next = 0x100;
  for (let byte = 0; byte < 0x100; byte++) {
    const printable = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
    bytes.set(String.fromCharCode(printable ? byte : next++), byte);
  }
  return (text) => Uint8Array.from(Array.from(text, (character) => bytes.get(character) ?? [...Buffer.from(character)]).flat());
}
