import { z } from 'zod';
import { type ChatMessage, chatMessages } from './chat-messages.ts';
import { chatLogprobs } from './logprobs-fields.ts';
import { parseWith, requireObject, wrongType } from './parse-body.ts';
import { generationFields, type GenerationOptions, toGenerationOptions } from './sampling-fields.ts';
import { templateVariables } from './template-variables.ts';
import { type CallableTool, callable, type Tool, toolUse } from './tools.ts';
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
    options,
    template: { tools: use?.tools ?? [], variables: templateVariables(raw['chat_template_kwargs']) },
    output: {
      tools: use?.tools.map(callable) ?? [],
      parallel: use?.parallel ?? true,
      reasoning: reasoning ?? true,
    },
  };
}
