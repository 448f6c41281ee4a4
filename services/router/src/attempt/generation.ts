import type { Constraint } from '@causeway/grammar';
import type { workerV1 } from '@causeway/proto';
import type { Answer } from '../answer/answer.ts';
import type { Choices } from '../answer/choices.ts';

/**
 * What an attempt that begins now has to generate. `fast`: the tokens given so far become part of the prompt. `exact`: they are
 * replayed as decode steps, so that every further token is computed as it would have been; also after a preemption. Several answers
 * have one prompt only as long as their own tokens stay out of it: they are replayed either way.
 */
export function nextGeneration(choices: Choices, recovery: 'fast' | 'exact'): workerV1.Generation {
  const { promptIds, stopTokenIds, ignoreEos, minTokens, logprobs, constraint } = choices.shared;
  const { open } = choices;
  // Of an echo alone none is open; a worker gives one token at least, which nobody takes.
  const [choice, answer] = open[0] ?? [0, choices.answers[0] as Answer];
  const exact = recovery === 'exact';
  const replay = exact || open.length > 1;
  const { emitted } = answer;
  const wire = open.map(([index, each]) => wireChoice(index, each, replay));
  return {
    promptIds: replay ? [...promptIds] : [...promptIds, ...emitted],
    replayIds: replay ? [...emitted] : [],
    maxTokens: Math.max(1, answer.remainingTokens),
    stopTokenIds: [...stopTokenIds],
    ignoreEos,
    minTokens,
    sampling: { ...answer.options.sampling },
    firstPosition: emitted.length,
    returnLogits: false,
    exactResume: exact,
    topLogprobs: logprobs ?? 0,
    constraint: constraint && constraintToProto(constraint),
    promptLogprobs: choices.scores?.complete === false ? choices.scores.tops : undefined,
    choices: open.length === 1 && choice === 0 ? [] : wire,
  };
}

function wireChoice(index: number, { emitted, remainingTokens, options }: Answer, replay: boolean): workerV1.Choice {
  return {
    index,
    seed: options.sampling.seed,
    replayIds: replay ? [...emitted] : [],
    maxTokens: remainingTokens,
    firstPosition: emitted.length,
  };
}

function constraintToProto(constraint: Constraint): workerV1.Constraint {
  const { prefix = '', suffix = '', thinking } = constraint;
  return { body: constraintBody(constraint), prefix, suffix, thinking };
}

function constraintBody(constraint: Constraint): workerV1.Constraint['body'] {
  switch (constraint.kind) {
    case 'json_object':
      return { $case: 'jsonObject', value: true };
    case 'json_schema':
      return { $case: 'jsonSchema', value: constraint.schema };
    case 'regex':
      return { $case: 'regex', value: constraint.pattern };
    case 'choice':
      return { $case: 'choices', value: { texts: [...constraint.choices] } };
  }
}
