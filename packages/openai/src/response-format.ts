import { fail } from '@causeway/errors';
import { type Constraint, type ConstraintBody, GRAMMAR_LIMITS, jsonSchemaConstraint } from '@causeway/grammar';
import { wrongType } from './parse-body.ts';

type Body = Readonly<Record<string, unknown>>;

/** What an answer is held to, and the field that said so. Whether it can be compiled is checked by whoever has the time. */
export interface AnswerFormat {
  readonly constraint: Constraint;
  readonly field: string;
}

/** OpenAI's rule for the name of a schema. */
const NAME = /^[a-zA-Z0-9_-]{1,64}$/;

/** Fields that hold an answer to a format: OpenAI's, and vLLM's newer and older ones. */
const READERS: Readonly<Record<string, (value: unknown, field: string) => AnswerFormat | undefined>> = {
  response_format: responseFormat,
  structured_outputs: structuredOutputs,
  guided_json: schemaFormat,
  guided_regex: regex,
  guided_choice: choice,
};

/**
 * What the request holds its answer to; undefined: any text.
 * @throws ServiceError `invalid_argument` naming the field: `bad_request`, `unsupported_parameter`
 */
export function answerFormat(body: Body): AnswerFormat | undefined {
  const formats = Object.entries(READERS).flatMap(([field, read]) => {
    const value = body[field];
    const format = value === undefined || value === null ? undefined : read(value, field);
    return format === undefined ? [] : [format];
  });
  const [format, second] = formats;
  if (second === undefined) return format;
  fail(
    'invalid_argument',
    'bad_request',
    `'${format?.field}' and '${second.field}' both hold the answer to a format; give one of them`,
    {
      field: second.field,
    },
  );
}

function responseFormat(value: unknown, field: string): AnswerFormat | undefined {
  const format = object(value, field, 'an object such as {"type": "json_object"}');
  switch (format['type']) {
    case 'text':
      return undefined;
    case 'json_object':
      return { constraint: { kind: 'json_object' }, field };
    case 'json_schema':
      return namedSchema(format['json_schema'], `${field}.json_schema`);
    default:
      if (typeof format['type'] !== 'string')
        wrongType(format['type'], `${field}.type`, '"text", "json_object" or "json_schema"');
      fail(
        'invalid_argument',
        'unsupported_parameter',
        `'${field}.type' must be "text", "json_object" or "json_schema", not ${JSON.stringify(format['type'].slice(0, 40))}`,
        { field: `${field}.type` },
      );
  }
}

/** The schema is enforced with `strict` and without. */
function namedSchema(value: unknown, field: string): AnswerFormat {
  const named = object(value, field, 'an object such as {"name": "answer", "schema": {...}}');
  const { name, strict, schema } = named;
  if (typeof name !== 'string') wrongType(name, `${field}.name`, 'a string');
  if (!NAME.test(name)) {
    fail('invalid_argument', 'bad_request', `'${field}.name' must be 1 to 64 letters, digits, "_" or "-"`, {
      field: `${field}.name`,
    });
  }
  if (strict !== undefined && strict !== null && typeof strict !== 'boolean')
    wrongType(strict, `${field}.strict`, 'true or false');
  return schemaFormat(schema, `${field}.schema`);
}

/** Documents of a JSON Schema. @throws ServiceError `bad_request` naming the field */
export function schemaFormat(value: unknown, field: string): AnswerFormat {
  // vLLM takes the schema's text as well.
  if (typeof value === 'string') return bounded({ kind: 'json_schema', schema: value }, value, field);
  if (typeof value !== 'boolean') object(value, field, 'a JSON Schema');
  let constraint: ReturnType<typeof jsonSchemaConstraint>;
  try {
    constraint = jsonSchemaConstraint(value);
  } catch {
    // Deeper than the stack of whoever writes it as text.
    return fail(
      'invalid_argument',
      'bad_request',
      `'${field}' is nested too deeply; at most ${GRAMMAR_LIMITS.depth} levels are taken`,
      {
        field,
      },
    );
  }
  return bounded(constraint, constraint.schema, field);
}

function regex(value: unknown, field: string): AnswerFormat {
  if (typeof value !== 'string') return wrongType(value, field, 'a string: a regular expression');
  return bounded({ kind: 'regex', pattern: value }, value, field);
}

function choice(value: unknown, field: string): AnswerFormat {
  if (!Array.isArray(value) || value.length === 0) return wrongType(value, field, 'a list of texts, at least one');
  const choices = value as readonly unknown[];
  const bad = choices.findIndex((text) => typeof text !== 'string' || text === '');
  if (bad >= 0) return wrongType(choices[bad], `${field}[${bad}]`, 'a string that is not empty');
  return bounded({ kind: 'choice', choices: choices as readonly string[] }, choices.join(''), field);
}

function structuredOutputs(value: unknown, field: string): AnswerFormat | undefined {
  const options = object(value, field, 'an object such as {"json": {...}}');
  const readers = { json: schemaFormat, regex, choice } as const;
  const given = Object.keys(options).filter(
    (name) => options[name] !== undefined && options[name] !== null && options[name] !== false,
  );
  const [name, second] = given;
  if (name === undefined) return undefined;
  if (second !== undefined) {
    fail('invalid_argument', 'bad_request', `'${field}' has "${name}" and "${second}"; give one of them`, { field });
  }
  if (name === 'json_object') return { constraint: { kind: 'json_object' }, field: `${field}.${name}` };
  const read = Object.hasOwn(readers, name) ? readers[name as keyof typeof readers] : undefined;
  if (read !== undefined) return read(options[name], `${field}.${name}`);
  fail(
    'invalid_argument',
    'unsupported_parameter',
    `'${field}.${name.slice(0, 40)}' is not supported here: use json, json_object, regex or choice`,
    {
      field,
    },
  );
}

/** Before anything is made of it. */
function bounded<T extends ConstraintBody>(constraint: T, text: string, field: string): AnswerFormat {
  const bytes = Buffer.byteLength(text);
  if (bytes <= GRAMMAR_LIMITS.bytes) return { constraint, field };
  fail('invalid_argument', 'bad_request', `'${field}' has ${bytes} bytes; at most ${GRAMMAR_LIMITS.bytes} are taken`, { field });
}

function object(value: unknown, field: string, expected: string): Body {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Body;
  return wrongType(value, field, expected);
}
