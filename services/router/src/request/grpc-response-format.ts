/** The response format of causeway.inference.v1; its bounds are those of the HTTP API. */
import { fail } from '@causeway/errors';
import type { ConstraintBody } from '@causeway/grammar';
import type { AnswerFormat } from '@causeway/openai';
import type { inferenceV1 } from '@causeway/proto';

/** @throws ServiceError `invalid_argument/bad_request` when it is empty. Whether it can be compiled is checked later. */
export function responseFormat(message: inferenceV1.ResponseFormat | undefined): AnswerFormat | undefined {
  if (message === undefined) return undefined;
  switch (message.format?.$case) {
    case 'jsonObject':
      return format({ kind: 'json_object' }, 'json_object');
    case 'jsonSchema':
      return format({ kind: 'json_schema', schema: message.format.value }, 'json_schema');
    case 'regex':
      return format({ kind: 'regex', pattern: message.format.value }, 'regex');
    case 'choice':
      return format({ kind: 'choice', choices: message.format.value.texts }, 'choice');
    case undefined:
      return fail('invalid_argument', 'bad_request', 'response_format is empty: give json_object, json_schema, regex or choice', {
        field: 'response_format',
      });
  }
}

function format(constraint: ConstraintBody, name: string): AnswerFormat {
  return { constraint, field: `response_format.${name}` };
}
