import type { Constraint } from '@causeway/grammar';
import type { OutputWish } from '@causeway/openai';
import type { RouterParts } from '../router-parts.ts';
import type { AnswerOptions } from './answer.ts';
import { spokenMarks } from './output-format.ts';
import { OutputParser } from './output-parser.ts';
import { type ReasoningStart, THINK_BEGIN, THINK_END } from './reasoning.ts';

/** Tokens at the end of a prompt among which the mark that opens reasoning is looked for. */
const TAIL_TOKENS = 16;

/**
 * What turns one answer's tokens into text, and text into content, reasoning and calls. `wish`: of a chat. Anew for each answer. An
 * answer that is held to a format is that document: it calls nothing, but may think before.
 */
export function answerText(
  wish: OutputWish | undefined,
  constraint: Constraint | undefined,
  promptIds: ArrayLike<number>,
  { tokenizer, output: format }: Pick<RouterParts, 'tokenizer' | 'output'>,
): Pick<AnswerOptions, 'detokenizer' | 'output' | 'constraint'> {
  const calls =
    constraint !== undefined || wish === undefined || wish.tools.length === 0 || format.calls === undefined
      ? undefined
      : { format: format.calls, tools: wish.tools, parallel: wish.parallel };
  const thinks = wish !== undefined && format.thinks;
  if (calls === undefined && !thinks) return { detokenizer: tokenizer.decodeStream(), output: undefined, constraint };
  const reasoning = !thinks ? undefined : opensReasoning(promptIds, tokenizer) ? 'open' : 'possible';
  const marks = spokenMarks({ calls: calls?.format, thinks });
  return {
    detokenizer: tokenizer.decodeStream(marks),
    output: new OutputParser({ reasoning, withReasoning: wish?.reasoning ?? true, calls }),
    constraint: constraint && thinking(constraint, reasoning),
  };
}

function thinking(constraint: Constraint, reasoning: ReasoningStart | undefined): Constraint {
  if (reasoning === undefined) return constraint;
  return { ...constraint, thinking: { begin: THINK_BEGIN, end: THINK_END, begun: reasoning === 'open' } };
}

/** Whether the prompt ends with the mark that opens reasoning, as the templates of some models write it for the model. */
function opensReasoning(ids: ArrayLike<number>, tokenizer: Pick<RouterParts['tokenizer'], 'decodeAll'>): boolean {
  const tail = Array.from({ length: Math.min(TAIL_TOKENS, ids.length) }, (_, at) => ids[ids.length - 1 - at] ?? 0).reverse();
  return tokenizer.decodeAll(tail).trimEnd().endsWith(THINK_BEGIN);
}
