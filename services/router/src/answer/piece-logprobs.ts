import type { NamedLogprob, TokenLogprob } from '@causeway/openai';
import type { RouterTokenizer } from '../tokenizer/tokenizer.ts';
import type { AnswerPiece } from './answer.ts';

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** A piece's log-probabilities, its tokens by name. */
export function pieceLogprobs(piece: AnswerPiece, tokenizer: Pick<RouterTokenizer, 'tokenBytes'>): TokenLogprob {
  const name = (id: number, logprob: number): NamedLogprob => ({ ...tokenName(id, tokenizer.tokenBytes(id)), logprob });
  return {
    ...name(piece.id, piece.logprob),
    offset: piece.offset,
    top: piece.topLogprobs.map(({ id, logprob }) => name(id, logprob)),
  };
}

/** The text of a token, or its bytes as OpenAI writes them when they are no whole characters. */
export function tokenName(id: number, bytes: Uint8Array | undefined): { token: string; bytes: number[] } {
  if (bytes === undefined) return { token: `token_id:${id}`, bytes: [] };
  try {
    return { token: utf8.decode(bytes), bytes: [...bytes] };
  } catch {
    const escaped = Array.from(bytes, (byte) => `\\x${byte.toString(16).padStart(2, '0')}`);
    return { token: `bytes:${escaped.join('')}`, bytes: [...bytes] };
  }
}
