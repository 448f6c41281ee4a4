/** Messages of causeway.inference.v1 as requests. */
import { fail } from '@causeway/errors';
import {
  type GenerationOptions,
  MAX_CHOICES,
  MAX_TOP_LOGPROBS,
  type OutputWish,
  type ToolUse,
  withForced,
  stopStrings,
  stopTokenIds,
} from '@causeway/openai';
import { inferenceV1 } from '@causeway/proto';
import { type CallWish, grpcChat } from './grpc-chat.ts';
import { responseFormat } from './grpc-response-format.ts';
import { samplingOptions } from './grpc-sampling.ts';
import type { PromptInput, ReadRequest } from './request.ts';

/** Longest model name, as over HTTP. */
const MAX_MODEL_LENGTH = 512;

/** @throws ServiceError `invalid_argument` naming the field. */
export function readGenerateRequest(body: Uint8Array): ReadRequest {
  const request = decoded(inferenceV1.GenerateRequest, 'GenerateRequest', body);
  const { prompt, promptField, output, use } = generatePrompt(request);
  const wanted: GenerationOptions = {
    ...NO_OPTIONS,
    n: choiceCount(request.n),
    maxTokens: request.maxTokens || undefined,
    ...samplingOptions(request.sampling),
    logprobs: logprobs(request.logprobs),
    stop: stopStrings(request.stop),
    stopTokenIds: stopTokenIds(request.stopTokenIds),
    ignoreEos: request.ignoreEos,
    minTokens: minTokens(request),
    format: responseFormat(request.responseFormat),
    placement: placement(request.placement),
  };
  const options = use === undefined ? wanted : withForced(wanted, use);
  const fields = { kind: 'generate' as const, model: modelName(request.model), promptField, options };
  return { fields: output === undefined ? fields : { ...fields, output }, prompts: [prompt] };
}

/** @throws ServiceError `invalid_argument` naming the field. */
export function readTokenizeRequest(body: Uint8Array): ReadRequest {
  const { model, input } = decoded(inferenceV1.TokenizeRequest, 'TokenizeRequest', body);
  if (input === undefined)
    fail('invalid_argument', 'empty_prompt', 'input is missing: give messages or text', { field: 'input' });
  const prompt: PromptInput =
    input.$case === 'text' ? { kind: 'text', text: input.value } : grpcChat(input.value, NO_CALL_WISH).prompt;
  return {
    fields: { kind: 'tokenize', model: modelName(model), promptField: input.$case, options: NO_OPTIONS },
    prompts: [prompt],
  };
}

/** Of a request that asks for tokens only. */
const NO_CALL_WISH: CallWish = { toolChoice: '', singleToolCall: false };

/** Of a request that says nothing of them. */
export const NO_OPTIONS: GenerationOptions = {
  n: 1,
  echo: false,
  maxTokens: undefined,
  temperature: 1,
  topP: 1,
  topK: 0,
  seed: undefined,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  logitBias: [],
  logprobs: undefined,
  stop: [],
  stopTokenIds: [],
  ignoreEos: false,
  minTokens: 0,
  format: undefined,
  stream: true,
  includeUsage: false,
  user: undefined,
  placement: undefined,
};

function decoded<T>(type: { decode(bytes: Uint8Array): T }, name: string, body: Uint8Array): T {
  try {
    return type.decode(body);
  } catch (cause) {
    return fail('invalid_argument', 'bad_request', `the message is not a ${name}`, { cause });
  }
}

function modelName(model: string): string | undefined {
  if (model.length > MAX_MODEL_LENGTH) {
    fail('invalid_argument', 'bad_request', `model must be at most ${MAX_MODEL_LENGTH} characters long`, { field: 'model' });
  }
  return model === '' ? undefined : model;
}

function generatePrompt(request: inferenceV1.GenerateRequest): {
  prompt: PromptInput;
  promptField: string;
  output?: OutputWish;
  use?: ToolUse | undefined;
} {
  const { input } = request;
  switch (input?.$case) {
    case 'messages':
      return { ...grpcChat(input.value, request), promptField: 'messages' };
    case 'prompt':
      if (input.value === '') fail('invalid_argument', 'empty_prompt', 'prompt is empty', { field: 'prompt' });
      return { prompt: { kind: 'text', text: input.value }, promptField: 'prompt' };
    case 'tokenIds':
      return { prompt: { kind: 'tokens', ids: input.value.ids }, promptField: 'token_ids.ids' };
    case undefined:
      return fail('invalid_argument', 'empty_prompt', 'input is missing: give messages, prompt or token_ids', { field: 'input' });
  }
}

function choiceCount(count: number): number {
  if (count <= MAX_CHOICES) return count || 1;
  fail('invalid_argument', 'bad_request', `n must be at most ${MAX_CHOICES}, not ${count}`, { field: 'n' });
}

function minTokens({ minTokens: least, maxTokens: most }: inferenceV1.GenerateRequest): number {
  if (most === 0 || least <= most) return least;
  const message = `min_tokens must be at most max_tokens, ${most}, not ${least}`;
  return fail('invalid_argument', 'bad_request', message, { field: 'min_tokens' });
}

function logprobs(count: number | undefined): number | undefined {
  if (count === undefined || count <= MAX_TOP_LOGPROBS) return count;
  fail('invalid_argument', 'bad_request', `logprobs must be at most ${MAX_TOP_LOGPROBS}, not ${count}`, { field: 'logprobs' });
}

function placement(value: string): GenerationOptions['placement'] {
  if (value === '') return undefined;
  if (value === 'local' || value === 'disaggregated') return value;
  fail(
    'invalid_argument',
    'bad_request',
    `placement must be "", "disaggregated" or "local", not ${JSON.stringify(value.slice(0, 40))}`,
    {
      field: 'placement',
    },
  );
}
