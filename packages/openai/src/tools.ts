/** The fields `tools`, `tool_choice` and `parallel_tool_calls` of a chat request. */
import { fail } from '@causeway/errors';
import { deeperThan } from './json-depth.ts';
import { wrongType } from './parse-body.ts';

/** Most tools of a request: OpenAI's limit. */
export const MAX_TOOLS = 128;
/** Deepest nesting of a tool's definition. */
export const MAX_TOOL_DEPTH = 64;
/** OpenAI's names, and the dots that other servers take. */
const TOOL_NAME = /^[A-Za-z0-9_.-]{1,64}$/;

type Body = Readonly<Record<string, unknown>>;

/** A tool as chat templates expect it: OpenAI's object, the function as the client wrote it. */
export interface Tool {
  type: 'function';
  function: { name: string } & Readonly<Record<string, unknown>>;
}

/** What it takes to read calls of a tool. */
export interface CallableTool {
  name: string;
  /** Parameters that can't be strings by the tool's schema. */
  jsonParameters: readonly string[];
}

export interface ToolUse {
  /** At least one. */
  tools: readonly Tool[];
  /** More than one call in an answer is wanted. */
  parallel: boolean;
  /** Those of which the answer must call one; none when it may do as it likes. */
  forced: readonly Tool[];
}

/** Which calls an answer must have: none, what the model likes, at least one, or one of the named tool. */
type ToolChoice = 'none' | 'auto' | 'required' | { name: string };

/**
 * The tools that the answer may call; undefined when it may call none. With `tool_choice: "none"` the model isn't told of them.
 * @throws ServiceError `bad_request` or `unsupported_parameter` naming the field
 */
export function toolUse(body: Body): ToolUse | undefined {
  const tools = toolList(body['tools'] ?? []);
  const choice = toolChoice(body['tool_choice'] ?? 'auto', tools);
  const parallel = body['parallel_tool_calls'] ?? true;
  if (typeof parallel !== 'boolean') return wrongType(parallel, 'parallel_tool_calls', 'true or false');
  if (tools.length === 0 || choice === 'none') return undefined;
  const forced =
    choice === 'auto' ? [] : choice === 'required' ? tools : tools.filter((tool) => tool.function.name === choice.name);
  return { tools, parallel, forced };
}

/** What is left of a tool when its calls are read. */
export function callable(tool: Tool): CallableTool {
  const { name, parameters } = tool.function;
  const properties = fieldOf(parameters, 'properties');
  const named = typeof properties === 'object' && properties !== null ? Object.entries(properties) : [];
  return { name, jsonParameters: named.flatMap(([parameter, schema]) => (mayBeString(schema) ? [] : [parameter])) };
}

/** A schema that says no type, or says it somewhere deeper, may be of strings. */
function mayBeString(schema: unknown): boolean {
  const alternatives = fieldOf(schema, 'anyOf') ?? fieldOf(schema, 'oneOf');
  if (Array.isArray(alternatives)) return alternatives.some(mayBeString);
  const type = fieldOf(schema, 'type');
  const types: readonly unknown[] = Array.isArray(type) ? type : [type];
  return types.some((name) => typeof name !== 'string' || name === 'string');
}

function fieldOf(value: unknown, field: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, field) ? (value as Body)[field] : undefined;
}

function toolList(list: unknown): readonly Tool[] {
  if (!Array.isArray(list)) return wrongType(list, 'tools', 'a list of tools');
  if (list.length > MAX_TOOLS) {
    const message = `'tools' has ${list.length} entries; at most ${MAX_TOOLS} are taken`;
    fail('invalid_argument', 'bad_request', message, { field: 'tools' });
  }
  const names = new Set<string>();
  return list.map((entry: unknown, index) => {
    const at = `tools[${index}]`;
    const read = tool(entry, at);
    const { name } = read.function;
    if (names.has(name)) {
      fail('invalid_argument', 'bad_request', `'${at}.function.name' is ${JSON.stringify(name)}, as of a tool before it`, {
        field: `${at}.function.name`,
      });
    }
    names.add(name);
    return read;
  });
}

function tool(entry: unknown, at: string): Tool {
  const { type, function: definition } = object(entry, at, 'an object such as {"type": "function", "function": {"name": "..."}}');
  if (typeof type !== 'string') return wrongType(type, `${at}.type`, '"function"');
  if (type !== 'function') {
    const message = `'${at}.type' is not supported here: only "function" is served, not ${JSON.stringify(type.slice(0, 40))}`;
    fail('invalid_argument', 'unsupported_parameter', message, { field: `${at}.type` });
  }
  const read = object(definition, `${at}.function`, 'an object such as {"name": "...", "parameters": {}}');
  const { name, description, parameters } = read;
  toolName(name, `${at}.function.name`);
  if (description !== undefined && description !== null && typeof description !== 'string') {
    return wrongType(description, `${at}.function.description`, 'a string');
  }
  if (parameters !== undefined && parameters !== null) object(parameters, `${at}.function.parameters`, 'a JSON Schema object');
  if (deeperThan(read, MAX_TOOL_DEPTH)) {
    const message = `'${at}.function' is nested deeper than ${MAX_TOOL_DEPTH} objects and lists`;
    fail('invalid_argument', 'bad_request', message, { field: `${at}.function` });
  }
  return { type, function: read as Tool['function'] };
}

/** @throws ServiceError `bad_request` */
export function toolName(name: unknown, at: string): string {
  if (typeof name !== 'string') return wrongType(name, at, 'a string');
  if (TOOL_NAME.test(name)) return name;
  const message = `'${at}' must be 1 to 64 letters, digits, "_", "-" and ".", not ${JSON.stringify(name.slice(0, 80))}`;
  fail('invalid_argument', 'bad_request', message, { field: at });
}

/** A JSON object, neither a list nor null. @throws ServiceError `bad_request` */
export function object(value: unknown, at: string, expected: string): Body {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Body;
  return wrongType(value, at, expected);
}

function toolChoice(choice: unknown, tools: readonly Tool[]): ToolChoice {
  const expected = '"none", "auto", "required" or an object such as {"type": "function", "function": {"name": "..."}}';
  if (choice === 'none' || choice === 'auto') return choice;
  if (choice !== 'required' && typeof choice === 'string') {
    const message = `'tool_choice' must be ${expected}, not ${JSON.stringify(choice.slice(0, 40))}`;
    fail('invalid_argument', 'bad_request', message, { field: 'tool_choice' });
  }
  if (tools.length === 0) {
    const message = "'tool_choice' names calls that the answer must have, but 'tools' has none";
    fail('invalid_argument', 'bad_request', message, { field: 'tool_choice' });
  }
  if (choice === 'required') return choice;
  const { type, function: called } = object(choice, 'tool_choice', expected);
  if (type !== 'function') return wrongType(type, 'tool_choice.type', '"function"');
  const { name } = object(called, 'tool_choice.function', 'an object such as {"name": "..."}');
  const wanted = toolName(name, 'tool_choice.function.name');
  if (tools.some((candidate) => candidate.function.name === wanted)) return { name: wanted };
  const message = `'tool_choice.function.name' is ${JSON.stringify(wanted)}, which is none of 'tools'`;
  fail('invalid_argument', 'bad_request', message, { field: 'tool_choice.function.name' });
}
