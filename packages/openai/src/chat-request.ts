import { fail } from '@causeway/errors';
import { z } from 'zod';
import { type ChatMessage, chatMessages } from './chat-messages.ts';
import { forcedCall } from './forced-call.ts';
import { chatLogprobs } from './logprobs-fields.ts';
import { parseWith, requireObject, wrongType } from './parse-body.ts';
import { generationFields, type GenerationOptions, toGenerationOptions } from './sampling-fields.ts';
import { templateVariables } from './template-variables.ts';
import { type CallableTool, callable, type Tool, type ToolUse, toolUse } from './tools.ts';
import { refuseUnsupported } from './unsupported.ts';

export interface ChatRequest {
  model: string;
  /** At least one. `developer` messages come as `system`; half a surrogate pair in a text comes as U+FFFD. */
  messages: readonly ChatMessage[];
  options: GenerationOptions;
  template: TemplateInput;
  output: OutputWish;
}

/** What the chat template is given beside the messages. */
export interface TemplateInput {
  /** Tools that the answer may call; none when it may call none. */
  tools: readonly Tool[];
  variables: Readonly<Record<string, unknown>>;
}

/** What the answer may hold beside content. */
export interface OutputWish {
  /** Tools that it may call. */
  tools: readonly CallableTool[];
  /** More than one call is wanted. */
  parallel: boolean;
  /** Reasoning is wanted; without, it is left out. */
  reasoning: boolean;
  /** It is one call: the format it is held to says so. */
  forced: boolean;
}

/** Fields that only chat requests have. */
export const CHAT_FIELDS = ['tools', 'tool_choice', 'chat_template_kwargs'] as const;

const chatBody = z.object(generationFields);

/**
 * Validates the body of POST /v1/chat/completions; stops at the first problem.
 * @throws ServiceError `invalid_argument` naming the field in OpenAI's notation: reasons `bad_request`, `bad_sampling`,
 * `unsupported_parameter`, `empty_prompt`.
 */
export function parseChatRequest(body: unknown): ChatRequest {
  const raw = requireObject(body);
  refuseUnsupported(raw, CHAT_FIELDS);
  const parsed = parseWith(chatBody, raw);
  const options = toGenerationOptions(parsed, raw, chatLogprobs(raw));
  const use = toolUse(raw);
  const { include_reasoning: reasoning } = raw;
  if (reasoning !== undefined && reasoning !== null && typeof reasoning !== 'boolean') {
    return wrongType(reasoning, 'include_reasoning', 'true or false');
  }
  return {
    model: parsed.model,
    messages: chatMessages(raw['messages']),
    options: use === undefined ? options : withForced(options, use),
    template: { tools: use?.tools ?? [], variables: templateVariables(raw['chat_template_kwargs']) },
    output: {
      tools: use?.tools.map(callable) ?? [],
      parallel: use?.parallel ?? true,
      reasoning: reasoning ?? true,
      forced: isForced(use),
    },
  };
}

/** The options of an answer that must call a tool hold it to a call. @throws ServiceError `bad_request` when they hold it to something else */
export function withForced(options: GenerationOptions, use: ToolUse): GenerationOptions {
  if (!isForced(use)) return options;
  if (options.format === undefined) return { ...options, format: forcedCall(use.forced) };
  const message = `'${options.format.field}' holds the answer to a format, and 'tool_choice' to a call; give one of them`;
  fail('invalid_argument', 'bad_request', message, { field: 'tool_choice' });
}

export function isForced(use: ToolUse | undefined): boolean {
  return use !== undefined && use.forced.length > 0;
}
