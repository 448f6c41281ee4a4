import { fail } from '@causeway/errors';
import { deeperThan } from './json-depth.ts';
import { wrongType } from './parse-body.ts';

/** Most variables that a request may give to the chat template. */
export const MAX_TEMPLATE_VARIABLES = 64;
/** Deepest nesting of one. */
const MAX_DEPTH = 16;
const NAME = /^[A-Za-z_][A-Za-z0-9_]{0,63}$/;
/** What the server itself gives to templates. */
const OWN: ReadonlySet<string> = new Set([
  'messages',
  'tools',
  'add_generation_prompt',
  'continue_final_message',
  'chat_template',
]);

/**
 * The field `chat_template_kwargs`, as in vLLM: variables that the chat template reads, such as `enable_thinking`.
 * @throws ServiceError `bad_request` naming the field
 */
export function templateVariables(given: unknown): Readonly<Record<string, unknown>> {
  const field = 'chat_template_kwargs';
  if (given === undefined || given === null) return {};
  if (typeof given !== 'object' || Array.isArray(given)) {
    return wrongType(given, field, 'an object such as {"enable_thinking": false}');
  }
  const names = Object.keys(given);
  const refuse = (why: string): never => fail('invalid_argument', 'bad_request', `'${field}' ${why}`, { field });
  if (names.length > MAX_TEMPLATE_VARIABLES) {
    return refuse(`has ${names.length} entries; at most ${MAX_TEMPLATE_VARIABLES} are taken`);
  }
  const bad = names.find((name) => !NAME.test(name));
  if (bad !== undefined) return refuse(`has the name ${JSON.stringify(bad.slice(0, 80))}, which no template can read`);
  const own = names.find((name) => OWN.has(name));
  if (own !== undefined) return refuse(`must not set ${own}: it is no variable of the template's own`);
  if (deeperThan(given, MAX_DEPTH)) return refuse(`is nested deeper than ${MAX_DEPTH} objects and lists`);
  return given as Readonly<Record<string, unknown>>;
}
