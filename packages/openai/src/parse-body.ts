import { type ErrorReason, fail } from '@causeway/errors';
import type { z } from 'zod';

/** Fields whose bad value is a matter of sampling rather than of form. */
const SAMPLING = new Set([
  'temperature',
  'top_p',
  'top_k',
  'seed',
  'min_p',
  'repetition_penalty',
  'presence_penalty',
  'frequency_penalty',
]);

/** `['messages', 0, 'content']` in OpenAI's notation: `messages[0].content`. */
export function fieldPath(path: readonly PropertyKey[]): string {
  return path.reduce<string>((text, part) => {
    if (typeof part === 'number') return `${text}[${part}]`;
    return text === '' ? String(part) : `${text}.${String(part)}`;
  }, '');
}

/**
 * The body as a JSON object.
 * @throws ServiceError `invalid_argument/bad_request` when it is anything else.
 */
export function requireObject(body: unknown): Readonly<Record<string, unknown>> {
  if (typeof body === 'object' && body !== null && !Array.isArray(body)) return body as Record<string, unknown>;
  fail('invalid_argument', 'bad_request', `the body must be a JSON object, not ${kindOf(body)}`);
}

/**
 * Refuses a value of the wrong type with OpenAI's sentence; `undefined` is a field that is missing.
 * @throws ServiceError `invalid_argument/bad_request`
 */
export function wrongType(value: unknown, field: string, expected: string): never {
  const message =
    value === undefined
      ? `'${field}' is required: it must be ${expected}`
      : `Invalid type for '${field}': expected ${expected}, but got ${kindOf(value)} instead.`;
  fail('invalid_argument', 'bad_request', message, { field });
}

function kindOf(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (Array.isArray(value)) return 'a list';
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`;
}

/**
 * Validates against a schema: only for bodies and fields of a few values, because a schema keeps every problem it finds.
 * @throws ServiceError `invalid_argument` about the first problem, its field in OpenAI's notation (`stream_options.include_usage`).
 */
export function parseWith<S extends z.ZodType>(schema: S, body: unknown): z.output<S> {
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const field = fieldPath(issue?.path ?? []);
  const missing = issue?.code === 'invalid_type' && valueAt(body, issue.path) === undefined;
  const text = missing ? `'${field}' is required: it ${issue.message}` : `'${field}' ${issue?.message ?? 'is invalid'}`;
  fail('invalid_argument', reasonOf(field), text, { field });
}

function reasonOf(field: string): ErrorReason {
  return SAMPLING.has(field) ? 'bad_sampling' : 'bad_request';
}

function valueAt(body: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (value, part) => (typeof value === 'object' && value !== null ? (value as Record<PropertyKey, unknown>)[part] : undefined),
    body,
  );
}
