/** Bodies of /tokenize and /detokenize, which are vLLM's. */
import { fail } from '@causeway/errors';
import { type ChatMessage, chatMessages } from './chat-messages.ts';
import { CHAT_FIELDS, type TemplateInput } from './chat-request.ts';
import { requireObject, wrongType } from './parse-body.ts';
import { badTokenId } from './token-ids.ts';
import { templateVariables } from './template-variables.ts';
import { toolUse } from './tools.ts';
import { refuseUnsupported } from './unsupported.ts';

export interface TokenizeBody {
  /** Undefined: the only model served. */
  model: string | undefined;
  input: { kind: 'text'; text: string } | { kind: 'chat'; messages: readonly ChatMessage[]; template: TemplateInput };
  /** The tokenizer's own leading tokens are wanted. A chat template writes them itself. */
  special: boolean;
}

export interface DetokenizeBody {
  model: string | undefined;
  tokens: readonly number[];
}

/** @throws ServiceError `invalid_argument` naming the field */
export function parseTokenizeRequest(body: unknown): TokenizeBody {
  const raw = requireObject(body);
  refuseUnsupported(raw, CHAT_FIELDS);
  const { prompt, messages, add_special_tokens: special, return_token_strs: strings } = raw;
  if (strings !== undefined && strings !== null && strings !== false) {
    const message = "'return_token_strs' is not supported here: only ids are given";
    fail('invalid_argument', 'unsupported_parameter', message, { field: 'return_token_strs' });
  }
  const chat = messages !== undefined && messages !== null;
  if (special !== undefined && special !== null && typeof special !== 'boolean') {
    return wrongType(special, 'add_special_tokens', 'true or false');
  }
  const model = modelName(raw['model']);
  if (chat && prompt !== undefined && prompt !== null) {
    fail('invalid_argument', 'bad_request', "give 'prompt' or 'messages', not both", { field: 'prompt' });
  }
  if (chat) {
    const template = { tools: toolUse(raw)?.tools ?? [], variables: templateVariables(raw['chat_template_kwargs']) };
    return { model, input: { kind: 'chat', messages: chatMessages(messages), template }, special: special ?? false };
  }
  if (typeof prompt !== 'string') return wrongType(prompt ?? undefined, 'prompt', "a string, or 'messages' be given");
  return { model, input: { kind: 'text', text: prompt.toWellFormed() }, special: special ?? true };
}

/** @throws ServiceError `invalid_argument` naming the field. Whether ids are in the vocabulary is checked by whoever knows it. */
export function parseDetokenizeRequest(body: unknown): DetokenizeBody {
  const { model, tokens } = requireObject(body);
  if (!Array.isArray(tokens)) return wrongType(tokens ?? undefined, 'tokens', 'a list of token ids');
  const bad = badTokenId(tokens);
  if (bad === undefined) return { model: modelName(model), tokens: tokens as readonly number[] };
  return wrongType(tokens[bad] ?? null, `tokens[${bad}]`, 'a token id: a whole number from 0');
}

function modelName(model: unknown): string | undefined {
  if (model === undefined || model === null) return undefined;
  if (typeof model !== 'string') return wrongType(model, 'model', 'a string');
  if (model.length > 0 && model.length <= 512) return model;
  fail('invalid_argument', 'bad_request', "'model' must have 1 to 512 characters", { field: 'model' });
}
