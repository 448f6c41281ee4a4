/** A whole request in a tokenizer thread: what crosses back is small or handed over, however large the body. */
import { inferenceV1 } from '@causeway/proto';
import type { RenderOptions, Tokenizer } from '@causeway/model-files';
import type { TemplateInput } from '@causeway/openai';
import { checkFormat, checkLength, checkRequest, checkTextLength, type ServedLimits } from './checks.ts';
import { readRequest } from './read-request.ts';
import {
  isAboutTokens,
  promptField,
  type PromptInput,
  type RequestFields,
  type RequestKind,
  type TokensKind,
} from './request.ts';

export interface RequestJob {
  readonly kind: RequestKind;
  readonly body: Uint8Array;
  readonly limits: ServedLimits;
}

export interface RequestResult {
  readonly fields: RequestFields;
  /** Of each prompt; none of a request about tokens. */
  readonly prompts: readonly TokenizedPrompt[];
  /** The answer to a request about tokens, encoded: as many ids take too long for an event loop. */
  readonly response: Uint8Array | undefined;
}

export interface TokenizedPrompt {
  readonly ids: Uint32Array;
  /** What comes before the answer when it is wanted there (`echo`), else empty. */
  readonly echo: string;
}

/** Read, check, render, tokenize. @throws ServiceError naming the field at fault */
export function doRequest(tokenizer: Tokenizer, { kind, body, limits }: RequestJob): RequestResult {
  const request = readRequest(kind, body);
  checkRequest(request, limits);
  const { fields } = request;
  checkFormat(fields);
  const { echo } = fields.options;
  const prompts = request.prompts.map((prompt, index): TokenizedPrompt => {
    const named = { ...fields, promptField: promptField(fields, index, request.prompts.length) };
    const check = (text: string): void => checkTextLength(text, named, limits, (bytes) => tokenizer.leastTokens(bytes));
    const ids = Uint32Array.from(promptIds(tokenizer, prompt, check));
    checkLength(ids.length, named, limits);
    return { ids, echo: echo ? promptText(prompt, (tokens) => tokenizer.decodeAll([...tokens])) : '' };
  });
  if (!isAboutTokens(kind)) return { fields, prompts, response: undefined };
  const [prompt] = prompts;
  return { fields, prompts: [], response: tokensResponse(kind, prompt?.ids ?? new Uint32Array(0), tokenizer, limits) };
}

/** The prompt as its answer begins with it: a text as it came, token ids as what they stand for. */
export function promptText(prompt: PromptInput, decode: (ids: readonly number[]) => string): string {
  switch (prompt.kind) {
    case 'text':
      return prompt.text;
    case 'tokens':
      return decode(prompt.ids);
    case 'chat':
      return '';
  }
}

function tokensResponse(kind: TokensKind, ids: Uint32Array, tokenizer: Tokenizer, { context }: ServedLimits): Uint8Array {
  switch (kind) {
    case 'tokenize':
      return tokenizeResponse(ids);
    case 'tokenize_http':
      return json({ count: ids.length, max_model_len: context ?? null, tokens: Array.from(ids), token_strs: null });
    case 'detokenize_http':
      return json({ prompt: tokenizer.decodeAll(Array.from(ids)) });
  }
}

/** In a buffer of its own, which can be handed over. */
function json(value: object): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

/** What the chat template gets beside the messages, with nothing that says nothing. */
export function renderOptions(template: TemplateInput | undefined): RenderOptions {
  const { tools = [], variables = {} } = template ?? {};
  return {
    ...(tools.length === 0 ? {} : { tools }),
    ...(Object.keys(variables).length === 0 ? {} : { variables }),
  };
}

/** Bytes of a TokenizeResponse. */
export function tokenizeResponse(ids: ArrayLike<number>): Uint8Array {
  return inferenceV1.TokenizeResponse.encode({ ids: Array.from(ids) }).finish();
}

function promptIds(tokenizer: Tokenizer, prompt: PromptInput, check: (text: string) => void): readonly number[] {
  switch (prompt.kind) {
    case 'tokens':
      return prompt.ids;
    case 'text':
      check(prompt.text);
      return prompt.special === false ? tokenizer.encodeRendered(prompt.text) : tokenizer.encode(prompt.text);
    case 'chat': {
      const text = tokenizer.renderChat(prompt.messages, renderOptions(prompt.template));
      check(text);
      return prompt.special === true ? tokenizer.encode(text) : tokenizer.encodeRendered(text);
    }
  }
}
