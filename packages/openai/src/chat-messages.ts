/** The messages of a conversation: checked, and in the form that chat templates expect. */
import { fail } from '@causeway/errors';
import { wrongType } from './parse-body.ts';
import { object, toolName } from './tools.ts';

/** Most messages of one conversation; checked before any of them is looked at. */
export const MAX_MESSAGES = 4096;
/** Most content parts of one message. */
export const MAX_CONTENT_PARTS = 1024;
/** Most calls of one message. */
export const MAX_MESSAGE_CALLS = 128;
/** Longest id of a call, and longest name of whoever speaks. */
const MAX_ID_LENGTH = 256;

export type ChatRole = 'system' | 'user' | 'assistant' | 'tool';

/** A call that an assistant made; `arguments` are JSON text, if the model wrote it well. */
export interface ChatToolCall {
  id: string;
  type: 'function';
  function: { name: string; arguments: string };
}

export interface ChatMessage {
  role: ChatRole;
  /** Empty where a message has calls only. */
  content: string;
  /** Who speaks, or the tool that answers. */
  name?: string;
  /** What an assistant thought; templates of models that reason may want it back. */
  reasoning_content?: string;
  /** Of an assistant; at least one. */
  tool_calls?: readonly ChatToolCall[];
  /** Of a tool: the call that it answers. */
  tool_call_id?: string;
}

/** A plain loop that ends at the first bad message: a schema would walk through all of them and keep every problem. */
export function chatMessages(messages: unknown): ChatMessage[] {
  if (!Array.isArray(messages)) return wrongType(messages, 'messages', 'a list of messages');
  if (messages.length === 0) fail('invalid_argument', 'empty_prompt', "'messages' has no message", { field: 'messages' });
  atMost(MAX_MESSAGES, messages, 'messages', 'entries');
  return messages.map((entry: unknown, index) => chatMessage(entry, `messages[${index}]`));
}

function chatMessage(entry: unknown, at: string): ChatMessage {
  const message = object(entry, at, 'an object such as {"role": "user", "content": "..."}');
  const role = chatRole(message['role'], `${at}.role`);
  const name = optionalText(message['name'], `${at}.name`, MAX_ID_LENGTH);
  const content = (): string => chatContent(message['content'], `${at}.content`);
  const named = name === undefined ? {} : { name };
  switch (role) {
    case 'system':
    case 'user':
      return { role, content: content(), ...named };
    case 'assistant':
      return { ...assistantMessage(message, at), ...named };
    case 'tool': {
      const id = message['tool_call_id'];
      if (typeof id !== 'string') return wrongType(id, `${at}.tool_call_id`, 'a string: the id of the call that it answers');
      return { role, content: content(), tool_call_id: shortText(id, `${at}.tool_call_id`, MAX_ID_LENGTH), ...named };
    }
  }
}

function assistantMessage(message: Readonly<Record<string, unknown>>, at: string): ChatMessage {
  const { content, tool_calls: given, function_call: legacy } = message;
  if (legacy !== undefined && legacy !== null) unsupported(`${at}.function_call`, 'functions gave way to tools: use tool_calls');
  const reasoning = optionalText(message['reasoning_content'] ?? message['reasoning'], `${at}.reasoning_content`);
  const calls = toolCalls(given ?? [], `${at}.tool_calls`);
  const bare = (content === undefined || content === null) && (calls.length > 0 || reasoning !== undefined);
  return {
    role: 'assistant',
    content: bare ? '' : chatContent(content, `${at}.content`),
    ...(reasoning === undefined ? {} : { reasoning_content: reasoning }),
    ...(calls.length === 0 ? {} : { tool_calls: calls }),
  };
}

function toolCalls(list: unknown, at: string): readonly ChatToolCall[] {
  if (!Array.isArray(list)) return wrongType(list, at, 'a list of calls');
  atMost(MAX_MESSAGE_CALLS, list, at, 'entries');
  return list.map((entry: unknown, index) => toolCall(entry, `${at}[${index}]`));
}

function toolCall(entry: unknown, at: string): ChatToolCall {
  const { id, type, function: called } = object(entry, at, 'an object such as {"id": "...", "type": "function", "function": {}}');
  if (typeof id !== 'string') return wrongType(id, `${at}.id`, 'a string');
  if (type !== 'function') {
    if (typeof type !== 'string') return wrongType(type, `${at}.type`, '"function"');
    unsupported(`${at}.type`, `only "function" is served, not ${JSON.stringify(type.slice(0, 40))}`);
  }
  const { name, arguments: text } = object(called, `${at}.function`, 'an object such as {"name": "...", "arguments": "{}"}');
  if (typeof text !== 'string') return wrongType(text, `${at}.function.arguments`, 'a string with JSON in it');
  return {
    id: shortText(id, `${at}.id`, MAX_ID_LENGTH),
    type: 'function',
    function: { name: toolName(name, `${at}.function.name`), arguments: text.toWellFormed() },
  };
}

function optionalText(value: unknown, at: string, limit?: number): string | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'string') return wrongType(value, at, 'a string');
  return limit === undefined ? value.toWellFormed() : shortText(value, at, limit);
}

function shortText(text: string, at: string, limit: number): string {
  if (text.length <= limit) return text.toWellFormed();
  fail('invalid_argument', 'bad_request', `'${at}' must be at most ${limit} characters long`, { field: at });
}

function chatRole(role: unknown, at: string): ChatRole {
  if (role === 'system' || role === 'user' || role === 'assistant' || role === 'tool') return role;
  if (role === 'developer') return 'system';
  if (role === 'function') unsupported(at, 'functions gave way to tools: use messages of role "tool"');
  const expected = '"system", "developer", "user", "assistant" or "tool"';
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
