/** Answers that must call a tool (`tool_choice: "required"`, or a named function). */
import type { AnswerFormat } from './response-format.ts';
import { schemaFormat } from './response-format.ts';
import type { Tool } from './tools.ts';

const FIELD = 'tool_choice';
/** A function without `parameters` takes none. */
const NO_PARAMETERS = { type: 'object', properties: {}, additionalProperties: false };

/**
 * What an answer is held to that must call one of these tools, whatever the model's own format of calls is:
 * `{"name": "...", "parameters": {...}}` with parameters by the tool's schema.
 * @throws ServiceError `bad_request` when the schemas are too large or too deep together
 */
export function forcedCall(tools: readonly Tool[]): AnswerFormat {
  const branches = tools.map(({ function: { name, parameters } }, index) => ({
    type: 'object',
    properties: {
      name: { const: name },
      parameters: moved(parameters ?? NO_PARAMETERS, `#/anyOf/${index}/properties/parameters`),
    },
    required: ['name', 'parameters'],
    additionalProperties: false,
  }));
  return schemaFormat({ anyOf: branches }, FIELD);
}

/** The schema with its own references (`#/...`) pointing into where it stands now. */
function moved(schema: unknown, root: string): unknown {
  if (Array.isArray(schema)) return schema.map((item: unknown) => moved(item, root));
  if (typeof schema !== 'object' || schema === null) return schema;
  return Object.fromEntries(
    Object.entries(schema).map(([key, value]: [string, unknown]) =>
      key === '$ref' && typeof value === 'string' && value.startsWith('#')
        ? [key, root + value.slice(1)]
        : [key, moved(value, root)],
    ),
  );
}
