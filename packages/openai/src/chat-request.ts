import { fail } from '@causeway/errors';
import { z } from 'zod';
import { chatLogprobs } from './logprobs-fields.ts';
import { parseWith, requireObject, wrongType } from './parse-body.ts';
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
  /** At least one. `developer` messages come as `system`; half a surrogate pair in a text comes as U+FFFD. */
  messages: readonly ChatMessage[];
  options: GenerationOptions;
}

const chatBody = z.object(generationFields);

/**
 * Validates the body of POST /v1/chat/completions; stops at the first problem.
 * @throws ServiceError `invalid_argument` naming the field in OpenAI's notation: reasons `bad_request`, `bad_sampling`,
 * `unsupported_parameter`, `empty_prompt`.
 */
export function parseChatRequest(body: unknown): ChatRequest {
  const raw = requireObject(body);
  refuseUnsupported(raw);
  const parsed = parseWith(chatBody, raw);
  const options = toGenerationOptions(parsed, raw, chatLogprobs(raw));
  return { model: parsed.model, messages: chatMessages(raw['messages']), options };
}

/** A plain loop that ends at the first bad message: a schema would walk through all of them and keep every problem. */
export function chatMessages(messages: unknown): ChatMessage[] {
  if (!Array.isArray(messages)) return wrongType(messages, 'messages', 'a list of messages');
  if (messages.length === 0) fail('invalid_argument', 'empty_prompt', "'messages' has no message", { field: 'messages' });
  atMost(MAX_MESSAGES, messages, 'messages', 'entries');
  return messages.map((entry: unknown, index) => chatMessage(entry, `messages[${index}]`));
}

function chatMessage(entry: unknown, at: string): ChatMessage {
  if (typeof entry !== 'object' || entry === null || Array.isArray(entry)) {
    return wrongType(entry, at, 'an object such as {"role": "user", "content": "..."}');
  }
  const { role, content, tool_calls: toolCalls } = entry as Record<string, unknown>;
  if (Array.isArray(toolCalls) && toolCalls.length > 0) unsupported(`${at}.tool_calls`, 'tool calls are not served');
  return { role: chatRole(role, `${at}.role`), content: chatContent(content, `${at}.content`) };
}

function chatRole(role: unknown, at: string): ChatRole {
  if (role === 'system' || role === 'user' || role === 'assistant') return role;
  if (role === 'developer') return 'system';
  if (role === 'tool' || role === 'function') unsupported(at, `messages of role "${role}" are not served`);
  const expected = '"system", "developer", "user" or "assistant"';
  if (typeof role !== 'string') return wrongType(role, at, expected);
  fail('invalid_argument', 'bad_request', `'${at}' must be ${expected}, not ${JSON.stringify(role.slice(0, 40))}`, { field: at });
}

function chatContent(content: unknown, at: string): string {
  if (typeof content === 'string') return content.toWellFormed();
  if (!Array.isArray(content)) return wrongType(content, at, 'a string or a list of text parts');
  atMost(MAX_CONTENT_PARTS, content, at, 'parts');
  return content
    .map((part: unknown, index) => textPart(part, `${at}[${index}]`))
    .join('')
    .toWellFormed();
}

function textPart(part: unknown, at: string): string {
  if (typeof part !== 'object' || part === null || Array.isArray(part)) {
    return wrongType(part, at, 'an object such as {"type": "text", "text": "..."}');
  }
  const { type, text } = part as Record<string, unknown>;
  if (typeof type !== 'string') return wrongType(type, `${at}.type`, '"text"');
  if (type !== 'text') unsupported(`${at}.type`, `only text parts are served, not ${JSON.stringify(type.slice(0, 40))}`);
  return typeof text === 'string' ? text : wrongType(text, `${at}.text`, 'a string');
}

function atMost(limit: number, list: readonly unknown[], field: string, what: string): void {
  if (list.length <= limit) return;
  fail('invalid_argument', 'bad_request', `'${field}' has ${list.length} ${what}; at most ${limit} are taken`, { field });
}

function unsupported(field: string, what: string): never {
  fail('invalid_argument', 'unsupported_parameter', `'${field}' is not supported here: ${what}`, { field });
}
