/**
 * A SentencePiece BPE tokenizer from GGUF metadata (`tokenizer.ggml.model` = `llama`), as Hugging Face writes one in tokenizer.json:
 * spaces are U+2581, the best score merges first, and characters without a token are taken byte by byte.
 */

/** ggml token types (llama.cpp, llama_token_type). */
const NORMAL = 1;
/** SentencePiece's own limit is 16 characters; longer pieces are runs of spaces. A longer one is never merged. */
const LONGEST_PIECE = 128;
const SPACE = '\u2581';

/**
 * Merges by falling score of what they make (transformers, convert_slow_tokenizer.py, generate_merges): SentencePiece states no merges,
 * any two pieces may form a third.
 */
function mergesOf(tokens: readonly string[], types: readonly unknown[], scores: readonly number[]): string[][] {
  const ids = new Map<string, number>();
  for (const [id, token] of tokens.entries()) if ((types[id] ?? NORMAL) === NORMAL && !ids.has(token)) ids.set(token, id);
  const found: { left: string; right: string; score: number }[] = [];
  for (const [token, id] of ids) {
    if (token.length > LONGEST_PIECE) continue;
    const own: typeof found = [];
    let left = '';
    for (const character of token) {
      if (left !== '' && ids.has(left) && ids.has(token.slice(left.length)))
        own.push({ left, right: token.slice(left.length), score: scores[id] ?? 0 });
      left += character;
    }
    const order = (piece: string): number => ids.get(piece) ?? 0;
    found.push(...own.sort((a, b) => order(a.left) - order(b.left) || order(a.right) - order(b.right)));
  }
  return found.sort((a, b) => b.score - a.score).map(({ left, right }) => [left, right]);
}

export interface SentencePieces {
  tokens: readonly string[];
  types: readonly unknown[];
  scores: readonly number[];
  unknownId: number;
  /** A space before each text. */
  spacePrefix: boolean;
}

/** The parts of tokenizer.json that are SentencePiece's. */
export function sentencePieceDefinition({ tokens, types, scores, unknownId, spacePrefix }: SentencePieces) {
  const spaces = { type: 'Replace', pattern: { String: ' ' }, content: SPACE };
  return {
    normalizer: spacePrefix ? { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: SPACE }, spaces] } : spaces,
    pre_tokenizer: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: SPACE }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        ...(spacePrefix ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : []),
      ],
    },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: tokens[unknownId] ?? null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: true,
      byte_fallback: true,
      ignore_merges: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: mergesOf(tokens, types, scores),
    },
  };
}
