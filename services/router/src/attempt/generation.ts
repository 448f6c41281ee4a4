import type { Constraint } from '@causeway/grammar';
import type { workerV1 } from '@causeway/proto';
import type { Answer } from '../answer/answer.ts';

/**
 * What an attempt that begins now has to generate. `fast`: the tokens given so far become part of the prompt. `exact`: they are
 * replayed as decode steps, so that every further token is computed as it would have been; also after a preemption.
 */
export function nextGeneration(answer: Answer, recovery: 'fast' | 'exact'): workerV1.Generation {
  const { promptIds, sampling, stopTokenIds, ignoreEos, logprobs, constraint } = answer.options;
  const { emitted } = answer;
  const replay = recovery === 'exact';
  return {
    promptIds: replay ? [...promptIds] : [...promptIds, ...emitted],
    replayIds: replay ? [...emitted] : [],
    maxTokens: answer.remainingTokens,
    stopTokenIds: [...stopTokenIds],
    ignoreEos,
    sampling: { ...sampling },
    firstPosition: emitted.length,
    returnLogits: false,
    exactResume: replay,
    topLogprobs: logprobs ?? 0,
    constraint: constraint && constraintToProto(constraint),
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
