import type { Constraint } from '@causeway/grammar';
import type { OutputWish } from '@causeway/openai';
import type { RouterParts } from '../router-parts.ts';
import type { AnswerOptions } from './answer.ts';
import type { CallFormat } from './tool-calls/call-sink.ts';
import { llama3 } from './tool-calls/llama3.ts';
import { spokenMarks } from './output-format.ts';
import { OutputParser } from './output-parser.ts';
import { type ReasoningStart, THINK_BEGIN, THINK_END } from './reasoning.ts';

/** Tokens at the end of a prompt among which the mark that opens reasoning is looked for. */
const TAIL_TOKENS = 16;

/**
 * What turns one answer's tokens into text, and text into content, reasoning and calls. `wish`: of a chat. Anew for each answer. An
 * answer that is held to a format is that document: it calls nothing unless it must, but may think before.
 */
export function answerText(
  wish: OutputWish | undefined,
  constraint: Constraint | undefined,
  promptIds: ArrayLike<number>,
  { tokenizer, output: format }: Pick<RouterParts, 'tokenizer' | 'output'>,
): Pick<AnswerOptions, 'detokenizer' | 'output' | 'constraint'> {
  const calls = callsOf(wish, constraint, format.calls);
  const thinks = wish !== undefined && format.thinks;
  if (calls === undefined && !thinks) return { detokenizer: tokenizer.decodeStream(), output: undefined, constraint };
  const reasoning = thinks ? reasoningStart(promptIds, tokenizer) : undefined;
  const marks = spokenMarks({ calls: calls?.format, thinks });
  return {
    detokenizer: tokenizer.decodeStream(marks),
    output: new OutputParser({ reasoning, withReasoning: wish?.reasoning ?? true, calls }),
    constraint: constraint && thinking(constraint, reasoning),
  };
}

type Calls = { format: CallFormat; tools: OutputWish['tools']; parallel: boolean };

/** A call that must come is held to one format, whatever the model's own. */
function callsOf(
  wish: OutputWish | undefined,
  constraint: Constraint | undefined,
  own: CallFormat | undefined,
): Calls | undefined {
  if (wish === undefined || wish.tools.length === 0) return undefined;
  if (wish.forced) return { format: llama3, tools: wish.tools, parallel: false };
  if (constraint !== undefined || own === undefined) return undefined;
  return { format: own, tools: wish.tools, parallel: wish.parallel };
}

function thinking(constraint: Constraint, reasoning: ReasoningStart | undefined): Constraint {
  if (reasoning === undefined) return constraint;
  return { ...constraint, thinking: { begin: THINK_BEGIN, end: THINK_END, begun: reasoning === 'open' } };
}

/**
 * How the prompt leaves it: some templates open reasoning for the model, or close it to say that none is wanted (`<think></think>`);
 * undefined: it is over.
 */
function reasoningStart(
  ids: ArrayLike<number>,
  tokenizer: Pick<RouterParts['tokenizer'], 'decodeAll'>,
): ReasoningStart | undefined {
  const tail = Array.from({ length: Math.min(TAIL_TOKENS, ids.length) }, (_, at) => ids[ids.length - 1 - at] ?? 0).reverse();
  const text = tokenizer.decodeAll(tail).trimEnd();
  if (text.endsWith(THINK_BEGIN)) return 'open';
  return text.endsWith(THINK_END) ? undefined : 'possible';
}
