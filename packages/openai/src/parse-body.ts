import { type ErrorReason, fail } from '@causeway/errors';
import type { z } from 'zod';

/** Fields whose bad value is a matter of sampling rather than of form. */
const SAMPLING = new Set(['temperature', 'top_p', 'top_k', 'seed']);

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
  fail(
    'invalid_argument',
    'bad_request',
    `the body must be a JSON object, not ${Array.isArray(body) ? 'a list' : `${body === null ? 'null' : typeof body}`}`,
  );
}

/**
 * Validates against a schema.
 * @throws ServiceError `invalid_argument` about the first problem, its field in OpenAI's notation (`messages[0].content`).
 */
export function parseWith<S extends z.ZodType>(schema: S, body: unknown): z.output<S> {
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  const issue = deepest(result.error.issues[0]);
  const field = fieldPath(issue?.path ?? []);
  const missing = issue?.code === 'invalid_type' && valueAt(body, issue.path) === undefined;
  const text = missing ? `'${field}' is required: it ${issue.message}` : `'${field}' ${issue?.message ?? 'is invalid'}`;
  fail(
    'invalid_argument',
    reasonOf(field),
    field === '' ? (issue?.message ?? 'the body is invalid') : text,
    field === '' ? {} : { field },
  );
}

type Issue = z.core.$ZodIssue;

/** A union reports one issue with its branches inside: the branch that got furthest is the one that was meant. */
function deepest(issue: Issue | undefined): Issue | undefined {
  if (issue?.code !== 'invalid_union') return issue;
  const branches = issue.errors.map((branch) => branch[0]).filter((first) => first !== undefined);
  const best = branches.toSorted((a, b) => rank(b) - rank(a))[0];
  if (best === undefined || rank(best) === 0) return issue;
  const inner = deepest(best);
  return inner === undefined ? issue : ({ ...inner, path: [...issue.path, ...inner.path] } as Issue);
}

function rank(issue: Issue): number {
  return issue.path.length * 2 + (issue.code === 'invalid_type' ? 0 : 1);
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
