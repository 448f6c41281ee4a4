import { fail } from '@causeway/errors';
import { z } from 'zod';
import { parseWith, requireObject } from './parse-body.ts';
import { generationFields, type GenerationOptions, toGenerationOptions } from './sampling-fields.ts';
import { refuseUnsupported } from './unsupported.ts';

/** Most messages of one conversation; checked before any of them is looked at. */
export const MAX_MESSAGES = 4096;
/** Most content parts of one message. */
export const MAX_CONTENT_PARTS = 1024;

export type ChatRole = 'system' | 'user' | 'assistant';

export interface ChatMessage {
  role: ChatRole;
  content: string;
}

export interface ChatRequest {
  model: string;
  /** At least one. `developer` messages come as `system`. */
  messages: readonly ChatMessage[];
  options: GenerationOptions;
}

const textPart = z.object({ type: z.literal('text'), text: z.string('must be a string') });

const message = z.object({
  role: z.enum(['system', 'developer', 'user', 'assistant'], 'must be "system", "developer", "user" or "assistant"'),
  content: z.union([z.string(), z.array(textPart)], 'must be a string or a list of text parts'),
});

const chatBody = z.object({ ...generationFields, messages: z.array(message, 'must be a list of messages') });

/**
 * Validates the body of POST /v1/chat/completions.
 * @throws ServiceError `invalid_argument` naming the field in OpenAI's notation: reasons `bad_request`, `bad_sampling`,
 * `unsupported_parameter`, `empty_prompt`.
 */
export function parseChatRequest(body: unknown): ChatRequest {
  const raw = requireObject(body);
  refuseUnsupported(raw);
  checkMessages(raw['messages']);
  const parsed = parseWith(chatBody, raw);
  const options = toGenerationOptions(parsed);
  checkStreamOptions(raw, options);
  return {
    model: parsed.model,
    messages: parsed.messages.map(({ role, content }) => ({
      role: role === 'developer' ? 'system' : role,
      content: typeof content === 'string' ? content : content.map((part) => part.text).join(''),
    })),
    options,
  };
}

/** @throws ServiceError when `stream_options` comes without `stream`: OpenAI's rule. */
export function checkStreamOptions(raw: Readonly<Record<string, unknown>>, options: GenerationOptions): void {
  if (options.stream || raw['stream_options'] === undefined || raw['stream_options'] === null) return;
  fail('invalid_argument', 'bad_request', "'stream_options' is only allowed when 'stream' is true", { field: 'stream_options' });
}

/** Counts and what isn't served, before the schema walks through everything. */
function checkMessages(messages: unknown): void {
  if (!Array.isArray(messages)) return;
  if (messages.length === 0) fail('invalid_argument', 'empty_prompt', "'messages' has no message", { field: 'messages' });
  if (messages.length > MAX_MESSAGES) {
    fail('invalid_argument', 'bad_request', `'messages' has ${messages.length} entries; at most ${MAX_MESSAGES} are taken`, {
      field: 'messages',
    });
  }
  messages.forEach((entry: unknown, index) => {
    if (typeof entry !== 'object' || entry === null) return;
    const { role, content, tool_calls: toolCalls } = entry as Record<string, unknown>;
    const at = `messages[${index}]`;
    if (role === 'tool' || role === 'function') unsupported(`${at}.role`, `messages of role "${role}" are not served`);
    if (Array.isArray(toolCalls) && toolCalls.length > 0) unsupported(`${at}.tool_calls`, 'tool calls are not served');
    if (Array.isArray(content)) checkParts(content, `${at}.content`);
  });
}

function checkParts(parts: readonly unknown[], at: string): void {
  if (parts.length > MAX_CONTENT_PARTS) {
    fail('invalid_argument', 'bad_request', `'${at}' has ${parts.length} parts; at most ${MAX_CONTENT_PARTS} are taken`, {
      field: at,
    });
  }
  parts.forEach((part, index) => {
    const type = typeof part === 'object' && part !== null ? (part as { type?: unknown }).type : undefined;
    if (typeof type === 'string' && type !== 'text') {
      unsupported(`${at}[${index}].type`, `only text parts are served, not ${JSON.stringify(type.slice(0, 40))}`);
    }
  });
}

function unsupported(field: string, what: string): never {
  fail('invalid_argument', 'unsupported_parameter', `'${field}' is not supported here: ${what}`, { field });
}
