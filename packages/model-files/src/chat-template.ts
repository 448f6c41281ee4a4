/** Chat templates: Jinja as transformers' apply_chat_template runs it. */
import { createContext, Script } from 'node:vm';
import { fail, ServiceError } from '@causeway/errors';
import { Template } from '@huggingface/jinja';
import { describedTools } from './described-tools.ts';
import { type CallForm, templateFacts, type TemplateFacts } from './template-facts.ts';
import { knowsToolInstructions, withToolInstructions } from './tool-instructions.ts';

/** A call that an assistant made; `arguments` are JSON text. */
export interface TemplateToolCall {
  readonly id: string;
  readonly type: 'function';
  readonly function: { readonly name: string; readonly arguments: string };
}

export interface ChatMessage {
  readonly role: string;
  readonly content: string;
  readonly name?: string;
  readonly reasoning_content?: string;
  readonly tool_calls?: readonly TemplateToolCall[];
  readonly tool_call_id?: string;
}

export interface RenderOptions {
  /** Ends with the opening of the assistant's answer; default true. */
  addGenerationPrompt?: boolean;
  /** Tools that the answer may call, as the API has them. */
  tools?: readonly object[];
  /** More variables that the template may read (`enable_thinking`, ...). */
  variables?: Readonly<Record<string, unknown>>;
  /** Longest time that it may take; default 5 s: a conversation of a megabyte takes a fraction of it. */
  limitMs?: number;
}

/** Renders messages to the text of a prompt. */
export type RenderChat = (messages: readonly ChatMessage[], options?: RenderOptions) => string;

/** Texts of a model's templates; `tools`: one of its own for requests with tools, as Hermes 2 Pro has (transformers' `tool_use`). */
export interface TemplateTexts {
  readonly main: string | undefined;
  readonly tools: string | undefined;
}

export interface ChatTemplate {
  /** @throws ServiceError `bad_request` when there is no template, it refuses the messages or takes too long */
  readonly render: RenderChat;
  /** Of the template that requests with tools get; undefined without templates. */
  facts(): TemplateFacts | undefined;
}

const RENDER_LIMIT_MS = 5000;
/** The same for the small conversations that show what a template does. */
const PROBE_LIMIT_MS = 1000;

/**
 * Compiles a template. `specials` are the texts of special tokens by name (`bos_token`, `eos_token`, ...).
 * @throws Error when the template does not parse.
 */
export function compileChatTemplate(texts: TemplateTexts, specials: Readonly<Record<string, string>>): ChatTemplate {
  const main = texts.main === undefined ? undefined : compiled(texts.main, specials);
  const toolTemplate = texts.tools === undefined ? main : compiled(texts.tools, specials);
  return {
    facts: () => toolTemplate?.facts(),
    render: (messages, options = {}) => {
      const tools = options.tools ?? [];
      const template = tools.length > 0 ? toolTemplate : main;
      if (template === undefined) {
        return fail('invalid_argument', 'bad_request', 'this model has no chat template: use /v1/completions', {
          field: 'messages',
        });
      }
      const variables: Record<string, unknown> = {
        ...options.variables,
        ...specials,
        ...withTools(templateMessages(messages, template), tools, template),
        add_generation_prompt: options.addGenerationPrompt ?? true,
      };
      const limitMs = options.limitMs ?? RENDER_LIMIT_MS;
      try {
        return rendered(template, variables, limitMs);
      } catch (error) {
        if (variables['tools'] === undefined || wasStopped(error)) throw error;
        return rendered(template, { ...variables, tools: describedTools(tools) }, limitMs);
      }
    },
  };
}

interface Compiled {
  readonly template: Template;
  facts(): TemplateFacts;
}

function compiled(text: string, specials: Readonly<Record<string, string>>): Compiled {
  const template = new Template(text);
  let facts: TemplateFacts | undefined;
  return {
    template,
    facts: () =>
      (facts ??= templateFacts(text, (variables) => withinTime(template, { ...specials, ...variables }, PROBE_LIMIT_MS))),
  };
}

function rendered({ template }: Compiled, variables: Record<string, unknown>, limitMs: number): string {
  try {
    return withinTime(template, variables, limitMs).toWellFormed();
  } catch (cause) {
    if (cause instanceof ServiceError) throw cause;
    const what = variables['tools'] === undefined ? 'messages' : 'messages and tools';
    const message = `the chat template refuses these ${what}: ${(cause as Error).message}`;
    return fail('invalid_argument', 'bad_request', message, { field: 'messages', cause });
  }
}

/** Node's code for a script that ran out of time. */
const STOPPED = 'ERR_SCRIPT_EXECUTION_TIMEOUT';

/** Whether the error is that of a template that took too long. */
export function wasStopped(error: unknown): boolean {
  return error instanceof ServiceError && (error.cause as NodeJS.ErrnoException | undefined)?.code === STOPPED;
}

/** Where a template's run can be stopped from outside; made once, because a context is expensive. */
const stoppable = { call: new Script('work()'), context: createContext({ work: undefined }) };

/** Runs the template, stopped when it takes too long: a template is a program, and comes with a checkpoint. */
function withinTime(template: Template, variables: Record<string, unknown>, limitMs: number): string {
  const { call, context } = stoppable;
  context['work'] = () => template.render(variables);
  try {
    return String(call.runInContext(context, { timeout: limitMs }));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== STOPPED) throw cause;
    const message = `the chat template took more than ${limitMs / 1000} s over these messages and was stopped`;
    return fail('invalid_argument', 'bad_request', message, { field: 'messages', cause });
  } finally {
    context['work'] = undefined;
  }
}

/**
 * The template's variables for messages and tools.
 * @throws ServiceError `unsupported_parameter`: with a template that leaves tools out the model would answer as if there were none
 */
function withTools(messages: readonly object[], tools: readonly object[], template: Compiled): Record<string, unknown> {
  if (tools.length === 0) return { messages };
  const { rendersTools, text } = template.facts();
  if (rendersTools) return { messages, tools };
  if (knowsToolInstructions(text)) return { messages: withToolInstructions(messages as readonly ChatMessage[], tools, text) };
  const message =
    "'tools' is not supported here: the chat template of this model does not know tools; leave them out, or give the router one that does (CAUSEWAY_CHAT_TEMPLATE)";
  return fail('invalid_argument', 'unsupported_parameter', message, { field: 'tools' });
}

function templateMessages(messages: readonly ChatMessage[], template: Compiled): readonly object[] {
  const at = messages.findIndex((message) => message.tool_calls !== undefined);
  if (at === -1) return messages;
  const form = template.facts().calls;
  if (form === undefined) {
    const field = `messages[${at}].tool_calls`;
    const message = `'${field}' is not supported here: the chat template of this model does not know calls`;
    return fail('invalid_argument', 'unsupported_parameter', message, { field });
  }
  return messages.map((message) => (message.tool_calls === undefined ? message : withCalls(message, form)));
}

/** A message with calls in the form that the template takes. */
function withCalls(message: ChatMessage, form: CallForm): object {
  const content = message.content === '' ? form.content : message.content;
  const calls = message.tool_calls?.map((toolCall) => {
    const { name, arguments: text } = toolCall.function;
    return { ...toolCall, function: { name, arguments: form.arguments === 'object' ? parsedObject(text) : text } };
  });
  return { ...message, content, tool_calls: calls };
}

/** Arguments as an object; what a model wrote badly stays the text that it was. */
function parsedObject(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text === '' ? '{}' : text);
    return typeof value === 'object' && value !== null ? value : text;
  } catch {
    return text;
  }
}

/** Texts of `bos_token`, `eos_token`, ... in tokenizer_config.json: strings, or objects with `content`. */
export function specialTokenTexts(config: Readonly<Record<string, unknown>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(config).flatMap(([key, value]) => {
      if (!key.endsWith('_token')) return [];
      const text = typeof value === 'object' && value !== null && 'content' in value ? value.content : value;
      return typeof text === 'string' ? [[key, text]] : [];
    }),
  );
}
