/** What a text is held to, as it travels with a request: plain values, compiled wherever they arrive. */

export type Constraint = ConstraintBody & {
  /** Exact text before and after what the body describes; tokens beside the vocabulary may spell it. */
  readonly prefix?: string;
  readonly suffix?: string;
  /** What may stand before all that: free text, whatever tokens spell it. */
  readonly thinking?: Thinking;
};

/** Reasoning between two marks. */
export interface Thinking {
  readonly begin: string;
  readonly end: string;
  /** The prompt has the first mark already: reasoning goes on up to the second one. Else there may be none. */
  readonly begun: boolean;
}

export type ConstraintBody =
  /** Any JSON object. */
  | { readonly kind: 'json_object' }
  /** A document that satisfies a JSON Schema, given as its text. */
  | { readonly kind: 'json_schema'; readonly schema: string }
  /** A text that a regular expression (ECMAScript's syntax) matches as a whole. */
  | { readonly kind: 'regex'; readonly pattern: string }
  /** One of these texts. */
  | { readonly kind: 'choice'; readonly choices: readonly string[] };

/** Equal for equal constraints. */
export function constraintKey(constraint: Constraint): string {
  const { prefix = '', suffix = '', kind, thinking } = constraint;
  const body =
    kind === 'json_schema'
      ? constraint.schema
      : kind === 'regex'
        ? constraint.pattern
        : kind === 'choice'
          ? constraint.choices
          : '';
  const before = thinking === undefined ? [] : [thinking.begin, thinking.end, thinking.begun];
  return JSON.stringify([kind, prefix, suffix, body, before]);
}

/**
 * The constraint to documents of a JSON Schema, with exact text around them if wanted (such as the tags of a tool call).
 * `compileConstraint` says whether the schema can be served.
 */
export function jsonSchemaConstraint(
  schema: unknown,
  around: { prefix?: string; suffix?: string } = {},
): Constraint & { kind: 'json_schema' } {
  return { kind: 'json_schema', schema: JSON.stringify(schema), ...around };
}
