import type { Constraint } from '@causeway/grammar';
import type { OutputWish } from '@causeway/openai';
import { describe, expect, it } from 'vitest';
import type { RouterParts } from '../router-parts.ts';
import { answerText } from './answer-text.ts';

const CONSTRAINT: Constraint = { kind: 'json_object' };
const WISH = { tools: [], parallel: true, reasoning: true } as unknown as OutputWish;

/** A prompt whose text is `tail`. */
function router(tail: string, thinks: boolean): Pick<RouterParts, 'tokenizer' | 'output'> {
  const tokenizer = { decodeStream: () => ({ push: () => '', flush: () => '' }), decodeAll: () => tail };
  return { tokenizer, output: { calls: undefined, thinks } } as unknown as Pick<RouterParts, 'tokenizer' | 'output'>;
}

const heldTo = (wish: OutputWish | undefined, tail: string, thinks: boolean) =>
  answerText(wish, CONSTRAINT, [1, 2], router(tail, thinks)).constraint;

describe('answerText', () => {
  it('holds the answer of a model that thinks to the format after its thoughts', () => {
    const marks = { begin: '<think>', end: '</think>' };
    expect(heldTo(WISH, 'assistant\n<think>\n', true)).toEqual({ ...CONSTRAINT, thinking: { ...marks, begun: true } });
    expect(heldTo(WISH, 'assistant\n', true)).toEqual({ ...CONSTRAINT, thinking: { ...marks, begun: false } });
  });

  it('holds other answers to it from the first token', () => {
    expect(heldTo(WISH, 'assistant\n<think>\n', false)).toEqual(CONSTRAINT);
    // A completion is text as it comes.
    expect(heldTo(undefined, '<think>', true)).toEqual(CONSTRAINT);
  });

  it('looks for no calls in a document', () => {
    const parts = router('', false);
    const calls = { format: 'json' };
    const withCalls = { ...parts, output: { ...parts.output, calls } } as unknown as typeof parts;
    const wish = { ...WISH, tools: [{ name: 'f' }] } as unknown as OutputWish;
    expect(answerText(wish, CONSTRAINT, [1], withCalls).output).toBeUndefined();
  });
});
