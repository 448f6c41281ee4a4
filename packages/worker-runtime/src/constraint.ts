/** What answers are held to, between the wire and the engine. */
import { fail } from '@causeway/errors';
import { type Constraint, type ConstraintBody, packTokens, TokenConstraints } from '@causeway/grammar';
import type { Tokenizer } from '@causeway/model-files';
import type { workerV1 } from '@causeway/proto';

/** @throws ServiceError `invalid_argument` when it says nothing. */
export function constraintFromProto(message: workerV1.Constraint | undefined): Constraint | undefined {
  if (message === undefined) return undefined;
  const { prefix, suffix, thinking } = message;
  if (thinking !== undefined && (thinking.begin === '' || thinking.end === '')) {
    fail('invalid_argument', 'bad_request', 'the marks of thinking must not be empty', {
      field: 'generation.constraint.thinking',
    });
  }
  return {
    ...bodyFromProto(message.body),
    ...(prefix === '' ? {} : { prefix }),
    ...(suffix === '' ? {} : { suffix }),
    ...(thinking === undefined ? {} : { thinking }),
  };
}

function bodyFromProto(body: workerV1.Constraint['body']): ConstraintBody {
  switch (body?.$case) {
    case 'jsonObject':
      return { kind: 'json_object' };
    case 'jsonSchema':
      return { kind: 'json_schema', schema: body.value };
    case 'regex':
      return { kind: 'regex', pattern: body.value };
    case 'choices':
      return { kind: 'choice', choices: body.value.texts };
    case undefined:
      return fail('invalid_argument', 'bad_request', 'the constraint is empty', { field: 'generation.constraint' });
  }
}

/** Starts the thread that holds answers of a model to their formats. */
export function startConstraints(
  tokenizer: Tokenizer,
  vocabSize: number,
  onReplaced: (cause: unknown) => void,
): TokenConstraints {
  const tokens = packTokens(
    vocabSize,
    (id) => tokenizer.tokenBytes(id),
    (id) => tokenizer.isAdded(id),
  );
  const constraints = new TokenConstraints({ tokens, onReplaced });
  constraints.start();
  return constraints;
}
