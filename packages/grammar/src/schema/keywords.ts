import { refuse, unsupported } from '../grammar-error.ts';

export type Schema = Readonly<Record<string, unknown>>;

export const TYPES = ['object', 'array', 'string', 'number', 'integer', 'boolean', 'null'] as const;
export type TypeName = (typeof TYPES)[number];

/** What each keyword must be; others are annotations or unknown and say nothing, as JSON Schema has it. */
const FORMS: Readonly<Record<string, { is: (value: unknown) => boolean; what: string }>> = {
  type: { is: isTypes, what: `one of ${TYPES.join(', ')}, or a list of these` },
  enum: { is: (v) => Array.isArray(v) && v.length > 0, what: 'a list with at least one value' },
  properties: { is: isObject, what: 'an object of schemas' },
  required: { is: (v) => Array.isArray(v) && v.every((name) => typeof name === 'string'), what: 'a list of names' },
  additionalProperties: { is: isSchema, what: 'a schema' },
  propertyNames: { is: isSchema, what: 'a schema' },
  prefixItems: { is: Array.isArray, what: 'a list of schemas' },
  items: { is: (v) => isSchema(v) || Array.isArray(v), what: 'a schema' },
  additionalItems: { is: isSchema, what: 'a schema' },
  anyOf: { is: isFilled, what: 'a list with at least one schema' },
  oneOf: { is: isFilled, what: 'a list with at least one schema' },
  allOf: { is: isFilled, what: 'a list with at least one schema' },
  minItems: { is: isCount, what: 'a whole number from 0' },
  maxItems: { is: isCount, what: 'a whole number from 0' },
  minLength: { is: isCount, what: 'a whole number from 0' },
  maxLength: { is: isCount, what: 'a whole number from 0' },
  minProperties: { is: isCount, what: 'a whole number from 0' },
  maxProperties: { is: isCount, what: 'a whole number from 0' },
  minimum: { is: Number.isFinite, what: 'a number' },
  maximum: { is: Number.isFinite, what: 'a number' },
  exclusiveMinimum: { is: Number.isFinite, what: 'a number' },
  exclusiveMaximum: { is: Number.isFinite, what: 'a number' },
  multipleOf: { is: (v) => typeof v === 'number' && v > 0, what: 'a number above 0' },
  pattern: { is: (v) => typeof v === 'string', what: 'a string' },
  format: { is: (v) => typeof v === 'string', what: 'a string' },
  $ref: { is: (v) => typeof v === 'string', what: 'a string' },
};

/** Keywords that would change which documents are right, by values that ask for nothing. */
const UNSUPPORTED: Readonly<Record<string, (value: unknown) => boolean>> = {
  not: () => false,
  if: () => false,
  dependentRequired: isEmptyObject,
  dependentSchemas: isEmptyObject,
  dependencies: isEmptyObject,
  patternProperties: isEmptyObject,
  unevaluatedItems: (v) => v === true,
  // What is written has only evaluated properties anyway.
  unevaluatedProperties: (v) => v === true || v === false,
  contains: (v) => v === true,
  uniqueItems: (v) => v === false,
  $dynamicRef: () => false,
  $recursiveRef: () => false,
};

/** @throws GrammarError naming keyword and place */
export function checkKeywords(schema: Schema, path: string): void {
  for (const [keyword, value] of Object.entries(schema)) {
    const form = Object.hasOwn(FORMS, keyword) ? FORMS[keyword] : undefined;
    if (form !== undefined && !form.is(value)) refuse(`"${keyword}" at ${path} must be ${form.what}`);
    const harmless = Object.hasOwn(UNSUPPORTED, keyword) ? UNSUPPORTED[keyword] : undefined;
    if (harmless?.(value) === false) unsupported(`"${keyword}" at ${path} is not supported`);
  }
}

export function isObject(value: unknown): value is Schema {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isSchema(value: unknown): boolean {
  return typeof value === 'boolean' || isObject(value);
}

function isFilled(value: unknown): boolean {
  return Array.isArray(value) && value.length > 0;
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isEmptyObject(value: unknown): boolean {
  return isObject(value) && Object.keys(value).length === 0;
}

function isTypes(value: unknown): boolean {
  const names: readonly unknown[] = Array.isArray(value) ? value : [value];
  return names.length > 0 && names.every((name) => (TYPES as readonly unknown[]).includes(name));
}
