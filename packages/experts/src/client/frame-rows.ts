/** The frame that asks one shard for some experts' answers. */
import { type OpenMessage, openRows, PAIR_BYTES } from '../wire/frame.ts';
import type { ExpertTokens } from './routed-tokens.ts';

/** Rows and pairs of a frame, before it has an id. */
export interface FrameContent {
  layer: number;
  experts: readonly ExpertTokens[];
  /** Tokens whose rows are sent, ascending. */
  tokens: readonly number[];
  pairs: number;
}

export function frameContent(layer: number, experts: readonly ExpertTokens[]): FrameContent {
  const tokens = [...new Set(experts.flatMap((one) => one.tokens))].sort((a, b) => a - b);
  return { layer, experts, tokens, pairs: experts.reduce((sum, one) => sum + one.tokens.length, 0) };
}

/** Writes the frame: gathers its rows out of `rows` [N, rowBytes], then the pairs. */
export function encodeFrame(content: FrameContent, id: number, epoch: number, rows: Uint8Array, rowBytes: number): Uint8Array {
  const { layer, experts, tokens, pairs } = content;
  const bodyBytes = tokens.length * rowBytes + pairs * PAIR_BYTES;
  const { message, body }: OpenMessage = openRows({ id, layer, epoch: BigInt(epoch), rows: tokens.length, pairs }, bodyBytes);
  const rowOf = new Map<number, number>();
  for (const [row, token] of tokens.entries()) {
    rowOf.set(token, row);
    body.set(rows.subarray(token * rowBytes, (token + 1) * rowBytes), row * rowBytes);
  }
  const view = new DataView(body.buffer, body.byteOffset + tokens.length * rowBytes, pairs * PAIR_BYTES);
  let pair = 0;
  for (const { expert, tokens: own, weights } of experts) {
    for (let i = 0; i < own.length; i++, pair++) {
      view.setUint32(pair * 4, rowOf.get(own[i] as number) ?? 0, true);
      view.setUint32((pairs + pair) * 4, expert, true);
      view.setFloat32((2 * pairs + pair) * 4, weights[i] as number, true);
    }
  }
  return message;
}
