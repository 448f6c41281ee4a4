/** Conversations of causeway.inference.v1: messages, tools and what the chat template reads. The bounds are those of the HTTP API. */
import { fail } from '@causeway/errors';
import {
  callable,
  type ChatMessage,
  type ChatToolCall,
  MAX_MESSAGE_CALLS,
  MAX_MESSAGES,
  isForced,
  type OutputWish,
  type ToolUse,
  type TemplateInput,
  templateVariables,
  toolName,
  toolUse,
} from '@causeway/openai';
import type { inferenceV1 } from '@causeway/proto';
import type { PromptInput } from './request.ts';

/** Longest id of a call and longest name, as over HTTP. */
const MAX_ID_LENGTH = 256;

/** What a request says about calls, beside the tools. */
export interface CallWish {
  readonly toolChoice: string;
  readonly singleToolCall: boolean;
}

export interface GrpcChat {
  readonly prompt: Extract<PromptInput, { kind: 'chat' }>;
  readonly output: OutputWish;
  readonly use: ToolUse | undefined;
}

/** @throws ServiceError `bad_request`, `unsupported_parameter`, `empty_prompt` naming the field */
export function grpcChat(conversation: inferenceV1.Messages, { toolChoice, singleToolCall }: CallWish): GrpcChat {
  const { tools, chatTemplateKwargs } = conversation;
  const use = toolUse({
    tools: tools.map(toolObject),
    tool_choice: toolChoice === '' ? undefined : toolChoice,
    parallel_tool_calls: !singleToolCall,
  });
  const variables = templateVariables(jsonText(chatTemplateKwargs, 'messages.chat_template_kwargs'));
  const template: TemplateInput = { tools: use?.tools ?? [], variables };
  return {
    prompt: { kind: 'chat', messages: chatMessages(conversation.messages), template },
    output: { tools: use?.tools.map(callable) ?? [], parallel: use?.parallel ?? true, reasoning: true, forced: isForced(use) },
    use,
  };
}

function toolObject({ name, description, parameters }: inferenceV1.Tool, index: number): object {
  const schema = jsonText(parameters, `tools[${index}].parameters`);
  return {
    type: 'function',
    function: {
      name,
      ...(description === '' ? {} : { description }),
      ...(schema === undefined ? {} : { parameters: schema }),
    },
  };
}

function jsonText(text: string, field: string): unknown {
  if (text === '') return undefined;
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    const message = `${field} is not JSON: ${(cause as Error).message.slice(0, 200)}`;
    return fail('invalid_argument', 'bad_request', message, { field, cause });
  }
}

function chatMessages(messages: readonly inferenceV1.Message[]): ChatMessage[] {
  if (messages.length === 0) fail('invalid_argument', 'empty_prompt', 'messages has no message', { field: 'messages' });
  if (messages.length > MAX_MESSAGES) {
    fail('invalid_argument', 'bad_request', `messages has ${messages.length} entries; at most ${MAX_MESSAGES} are taken`, {
      field: 'messages',
    });
  }
  return messages.map((message, index) => chatMessage(message, `messages[${index}]`));
}

function chatMessage(message: inferenceV1.Message, at: string): ChatMessage {
  const { role, content, name, toolCalls, toolCallId, reasoningContent } = message;
  const named = name === '' ? {} : { name: shortText(name, `${at}.name`) };
  const known = role === 'developer' ? 'system' : role;
  switch (known) {
    case 'system':
    case 'user':
      return { role: known, content, ...named };
    case 'assistant':
      return {
        role: known,
        content,
        ...named,
        ...(reasoningContent === '' ? {} : { reasoning_content: reasoningContent }),
        ...(toolCalls.length === 0 ? {} : { tool_calls: calls(toolCalls, `${at}.tool_calls`) }),
      };
    case 'tool':
      if (toolCallId === '')
        refuse(`${at}.tool_call_id is missing: it must be the id of the call that it answers`, `${at}.tool_call_id`);
      return { role: known, content, tool_call_id: shortText(toolCallId, `${at}.tool_call_id`), ...named };
    default:
      return refuse(`role ${JSON.stringify(role.slice(0, 40))} is not system, developer, user, assistant or tool`, `${at}.role`);
  }
}

function calls(list: readonly inferenceV1.ToolCall[], at: string): readonly ChatToolCall[] {
  if (list.length > MAX_MESSAGE_CALLS) refuse(`${at} has ${list.length} entries; at most ${MAX_MESSAGE_CALLS} are taken`, at);
  return list.map(({ id, name, arguments: text }, index) => ({
    id: shortText(id, `${at}[${index}].id`),
    type: 'function',
    function: { name: toolName(name, `${at}[${index}].name`), arguments: text },
  }));
}

function shortText(text: string, field: string): string {
  return text.length <= MAX_ID_LENGTH ? text : refuse(`${field} must be at most ${MAX_ID_LENGTH} characters long`, field);
}

function refuse(message: string, field: string): never {
  fail('invalid_argument', 'bad_request', message, { field });
}
