/** What refuses a request whose form is right. Everything here comes before anything is tokenized, or is about the tokens. */
import { fail } from '@causeway/errors';
import { checkConstraint } from '@causeway/grammar';
import type { GenerationOptions, LogitBias, OutputWish } from '@causeway/openai';
import type { OutputFormat } from '../answer/output-format.ts';
import { isAboutTokens, promptField, type ReadRequest, type RequestFields } from './request.ts';

/** What can be served now. */
export interface ServedLimits {
  /** Name of the model. */
  readonly model: string;
  /** Tokens of prompt and answer together; undefined while no decode worker serves it. */
  readonly context: number | undefined;
  /** Token ids are below this. */
  readonly vocabSize: number;
}

/**
 * Refuses what can be refused without tokenizing.
 * @throws ServiceError `unknown_model`, `prompt_too_long`, `invalid_token`; `no_workers` for an answer that nobody could write
 */
export function checkRequest({ fields, prompts }: ReadRequest, limits: ServedLimits): void {
  requireModel(fields.model, limits.model);
  checkIds(fields.options.stopTokenIds, 'stop_token_ids', limits);
  checkBias(fields.options.logitBias, limits);
  checkEnd(fields.options);
  for (const [index, prompt] of prompts.entries()) {
    if (prompt.kind !== 'tokens') continue;
    const field = promptField(fields, index, prompts.length);
    checkLength(prompt.ids.length, { ...fields, promptField: field }, limits);
    checkIds(prompt.ids, field, limits);
  }
  if (!isAboutTokens(fields.kind)) servedContext(limits);
}

/** @throws ServiceError `unsupported_parameter` for tools when nobody could tell the model's calls from its text */
export function checkCalls(wish: OutputWish | undefined, { calls }: OutputFormat): void {
  if (wish === undefined || wish.tools.length === 0 || calls !== undefined) return;
  const message =
    "'tools' is not supported here: how this model writes its calls is not known from its chat template; leave them out, or tell the router (CAUSEWAY_TOOL_PARSER)";
  fail('invalid_argument', 'unsupported_parameter', message, { field: 'tools' });
}

/** @throws ServiceError `no_workers` */
export function servedContext({ context, model }: ServedLimits): number {
  if (context !== undefined) return context;
  fail('unavailable', 'no_workers', `no decode worker serves ${model} now`, { retry: 'same', retryAfterSeconds: 2 });
}

/**
 * Refuses a text that has too many tokens whatever they are, because tokenizing it would keep others waiting.
 * @throws ServiceError `prompt_too_long`
 */
export function checkTextLength(
  text: string,
  fields: RequestFields,
  limits: ServedLimits,
  least: (bytes: number) => number,
): void {
  const bytes = Buffer.byteLength(text);
  const tokens = least(bytes);
  if (limits.context === undefined || tokens < limits.context) return;
  tooLong(`the prompt has ${bytes} bytes, at least ${tokens} tokens`, limits.context, fields, limits);
}

/** @throws ServiceError `empty_prompt` (vLLM's endpoints take one), `prompt_too_long` (of what generates) */
export function checkLength(tokens: number, fields: RequestFields, limits: ServedLimits): void {
  if (fields.kind === 'tokenize_http' || fields.kind === 'detokenize_http') return;
  if (tokens === 0) fail('invalid_argument', 'empty_prompt', 'the prompt has no tokens', { field: fields.promptField });
  if (isAboutTokens(fields.kind) || limits.context === undefined || tokens < limits.context) return;
  tooLong(`the prompt has ${tokens} tokens`, limits.context, fields, limits);
}

function tooLong(what: string, context: number, { promptField }: RequestFields, { model }: ServedLimits): never {
  fail('invalid_argument', 'prompt_too_long', `${what}; the context of ${model} holds ${context} with the answer`, {
    field: promptField,
  });
}

function requireModel(model: string | undefined, served: string): void {
  if (model === undefined || model === served) return;
  fail('not_found', 'unknown_model', `the model '${model}' does not exist here; served: ${served}`, { field: 'model' });
}

/** A document ends its answer: it can't be told to go on. */
function checkEnd({ ignoreEos, minTokens, format }: GenerationOptions): void {
  if (format === undefined) return;
  const refuse = (field: string, what: string): never =>
    fail('invalid_argument', 'bad_request', `'${field}' ${what} together with '${format.field}': the document ends the answer`, {
      field,
    });
  if (ignoreEos) refuse('ignore_eos', "can't be true");
  if (minTokens > 0) refuse('min_tokens', "can't be given");
}

/** Compiles what the answer is held to: off the event loop. @throws ServiceError `bad_request`, `unsupported_parameter` */
export function checkFormat({ options: { format } }: RequestFields): void {
  if (format !== undefined) checkConstraint(format.constraint, format.field);
}

function checkBias(entries: readonly LogitBias[], { vocabSize }: ServedLimits): void {
  const bad = entries.find(({ id }) => id >= vocabSize);
  if (bad === undefined) return;
  const message = `'logit_bias' names token ${bad.id}, which is not in the vocabulary of ${vocabSize} tokens`;
  fail('invalid_argument', 'invalid_token', message, { field: 'logit_bias' });
}

function checkIds(ids: readonly number[], field: string, { vocabSize }: ServedLimits): void {
  const bad = ids.findIndex((id) => !(id >= 0 && id < vocabSize));
  if (bad === -1) return;
  const message = `token id ${ids[bad]} at position ${bad} is not in the vocabulary of ${vocabSize} tokens`;
  fail('invalid_argument', 'invalid_token', message, { field: `${field}[${bad}]` });
}
