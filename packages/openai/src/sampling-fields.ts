import { fail } from '@causeway/errors';
import { z } from 'zod';
import { type LogitBias, logitBias } from './logit-bias.ts';
import { type AnswerFormat, answerFormat } from './response-format.ts';
import { stopStrings, stopTokenIds } from './stop-fields.ts';

/** A field that may be left out or null. */
function optional<T extends z.ZodType>(schema: T): z.ZodOptional<z.ZodNullable<T>> {
  return schema.nullable().optional();
}

const tokenLimit = z
  .number('must be a whole number of tokens')
  .int('must be a whole number of tokens')
  .min(1, 'must be at least 1');

const wholeFromZero = 'must be a whole number of tokens, 0 or more';

/** Most answers of one prompt. */
export const MAX_CHOICES = 16;

const choiceCount = `must be a whole number from 1 to ${MAX_CHOICES}`;

/** A number within bounds. */
function ranged(least: number, most: number): z.ZodType<number, number> {
  const rule = `must be a number from ${least} to ${most}`;
  return z.number(rule).min(least, rule).max(most, rule);
}

/**
 * Fields of one value that both endpoints take; unknown ones are ignored, as OpenAI's clients expect of servers with fewer features.
 * Lists are read by loops of their own.
 */
export const generationFields = {
  model: z.string('must be a string: the name of a model in GET /v1/models').min(1, 'must not be empty').max(512, 'is too long'),
  max_tokens: optional(tokenLimit),
  max_completion_tokens: optional(tokenLimit),
  n: optional(z.number(choiceCount).int(choiceCount).min(1, choiceCount).max(MAX_CHOICES, choiceCount)),
  best_of: optional(z.number('must be a whole number').int('must be a whole number')),
  temperature: optional(ranged(0, 2)),
  top_p: optional(
    z.number('must be a number above 0, at most 1').gt(0, 'must be above 0, at most 1').max(1, 'must be above 0, at most 1'),
  ),
  /** Extension, as in vLLM: 0 or -1 means no limit. */
  top_k: optional(
    z
      .number('must be a whole number; 0 means no limit')
      .int('must be a whole number; 0 means no limit')
      .min(-1, 'must be at least 0; 0 means no limit')
      .max(0xffff_ffff, 'must be below 2^32'),
  ),
  /** Extensions, as in vLLM. */
  min_p: optional(ranged(0, 1)),
  repetition_penalty: optional(ranged(0.01, 100)),
  presence_penalty: optional(ranged(-2, 2)),
  frequency_penalty: optional(ranged(-2, 2)),
  seed: optional(z.number('must be a whole number below 2^53').int('must be a whole number below 2^53 in magnitude')),
  /** Extension, as in vLLM: the model's own end of sequence ends no answer. */
  ignore_eos: optional(z.boolean('must be true or false')),
  /** Extension, as in vLLM: before so many tokens nothing ends an answer but its limit. */
  min_tokens: optional(z.number(wholeFromZero).int(wholeFromZero).min(0, wholeFromZero)),
  stream: optional(z.boolean('must be true or false')),
  stream_options: optional(
    z.object(
      { include_usage: optional(z.boolean('must be true or false')) },
      'must be an object such as {"include_usage": true}',
    ),
  ),
  user: optional(z.string('must be a string').max(4096, 'is too long')),
  causeway: optional(
    z.object(
      {
        placement: optional(z.enum(['disaggregated', 'local'], 'must be "disaggregated" or "local"')),
      },
      'must be an object such as {"placement": "local"}',
    ),
  ),
} as const;

/** Where the request wants its prompt prefilled. */
export type PlacementWish = 'disaggregated' | 'local';

/** What both endpoints' requests say about generation, with defaults filled in. */
export interface GenerationOptions {
  /** Answers of each prompt. */
  n: number;
  /** The prompt's text comes before each answer's. */
  echo: boolean;
  /** Undefined: the deployment's default. */
  maxTokens: number | undefined;
  /** 0 means greedy. */
  temperature: number;
  topP: number;
  /** 0 means no limit. */
  topK: number;
  /** Undefined: a random one. */
  seed: bigint | undefined;
  /** 0 means none. */
  minP: number;
  /** 1 means none. */
  repetitionPenalty: number;
  presencePenalty: number;
  frequencyPenalty: number;
  logitBias: readonly LogitBias[];
  /** Tokens come with their log-probabilities and those of so many of the likeliest ones; undefined: without. */
  logprobs: number | undefined;
  stop: readonly string[];
  /** Tokens that end the answer beside the model's own. */
  stopTokenIds: readonly number[];
  ignoreEos: boolean;
  /** Tokens that an answer has at least; 0 means none. */
  minTokens: number;
  /** What the answer is held to; undefined: any text. */
  format: AnswerFormat | undefined;
  stream: boolean;
  includeUsage: boolean;
  user: string | undefined;
  placement: PlacementWish | undefined;
}

const generationObject = z.object(generationFields);

/**
 * Normalises the validated fields and reads the lists: nulls are absent, the newer `max_completion_tokens` wins over `max_tokens`.
 * @throws ServiceError `bad_request` naming the field
 */
export function toGenerationOptions(
  body: z.output<typeof generationObject>,
  raw: Readonly<Record<string, unknown>>,
  logprobs: number | undefined,
): GenerationOptions {
  const options: GenerationOptions = {
    n: body.n ?? 1,
    echo: false,
    maxTokens: body.max_completion_tokens ?? body.max_tokens ?? undefined,
    temperature: body.temperature ?? 1,
    topP: body.top_p ?? 1,
    topK: Math.max(0, body.top_k ?? 0),
    seed: typeof body.seed === 'number' ? BigInt.asUintN(64, BigInt(body.seed)) : undefined,
    minP: body.min_p ?? 0,
    repetitionPenalty: body.repetition_penalty ?? 1,
    presencePenalty: body.presence_penalty ?? 0,
    frequencyPenalty: body.frequency_penalty ?? 0,
    logitBias: logitBias(raw['logit_bias']),
    logprobs,
    stop: stopStrings(raw['stop']),
    stopTokenIds: stopTokenIds(raw['stop_token_ids']),
    ignoreEos: body.ignore_eos ?? false,
    minTokens: body.min_tokens ?? 0,
    format: answerFormat(raw),
    stream: body.stream ?? false,
    includeUsage: body.stream_options?.include_usage ?? false,
    user: body.user ?? undefined,
    placement: body.causeway?.placement ?? undefined,
  };
  if ((body.best_of ?? options.n) !== options.n) {
    const message = `'best_of' is not supported here: it must equal 'n' (${options.n}), as every answer is given`;
    fail('invalid_argument', 'unsupported_parameter', message, { field: 'best_of' });
  }
  if (options.maxTokens !== undefined && options.minTokens > options.maxTokens) {
    const message = `'min_tokens' must be at most the answer's limit, ${options.maxTokens}`;
    fail('invalid_argument', 'bad_request', message, { field: 'min_tokens' });
  }
  if (!options.stream && (body.stream_options ?? undefined) !== undefined) {
    fail('invalid_argument', 'bad_request', "'stream_options' is only allowed when 'stream' is true", {
      field: 'stream_options',
    });
  }
  return options;
}
