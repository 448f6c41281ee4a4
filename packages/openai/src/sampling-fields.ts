import { z } from 'zod';

/** Most stop strings of a request: OpenAI's limit. */
export const MAX_STOP_STRINGS = 4;
/** Longest stop string, in UTF-16 units: what the router may have to hold back. */
export const MAX_STOP_LENGTH = 1024;

/** A field that may be left out or null. */
function optional<T extends z.ZodType>(schema: T): z.ZodOptional<z.ZodNullable<T>> {
  return schema.nullable().optional();
}

const tokenLimit = z
  .number('must be a whole number of tokens')
  .int('must be a whole number of tokens')
  .min(1, 'must be at least 1');

const stopString = z
  .string('must be a string')
  .min(1, 'must not be an empty string')
  .max(MAX_STOP_LENGTH, `must be at most ${MAX_STOP_LENGTH} characters long`);

/** Fields that both endpoints take; unknown ones are ignored, as OpenAI's clients expect of servers with fewer features. */
export const generationFields = {
  model: z.string('must be a string: the name of a model in GET /v1/models').min(1, 'must not be empty').max(512, 'is too long'),
  max_tokens: optional(tokenLimit),
  max_completion_tokens: optional(tokenLimit),
  temperature: optional(z.number('must be a number from 0 to 2').min(0, 'must be from 0 to 2').max(2, 'must be from 0 to 2')),
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
  seed: optional(z.number('must be a whole number below 2^53').int('must be a whole number below 2^53 in magnitude')),
  stop: optional(
    z.union(
      [
        stopString,
        z
          .array(stopString, 'must be a string or a list of strings')
          .max(MAX_STOP_STRINGS, `must have at most ${MAX_STOP_STRINGS} entries`),
      ],
      'must be a string or a list of strings',
    ),
  ),
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
  /** Undefined: the deployment's default. */
  maxTokens: number | undefined;
  /** 0 means greedy. */
  temperature: number;
  topP: number;
  /** 0 means no limit. */
  topK: number;
  /** Undefined: a random one. */
  seed: bigint | undefined;
  stop: readonly string[];
  stream: boolean;
  includeUsage: boolean;
  user: string | undefined;
  placement: PlacementWish | undefined;
}

const generationObject = z.object(generationFields);

/** Normalises the validated fields: nulls are absent, the newer `max_completion_tokens` wins over `max_tokens`. */
export function toGenerationOptions(body: z.output<typeof generationObject>): GenerationOptions {
  const { stop } = body;
  return {
    maxTokens: body.max_completion_tokens ?? body.max_tokens ?? undefined,
    temperature: body.temperature ?? 1,
    topP: body.top_p ?? 1,
    topK: Math.max(0, body.top_k ?? 0),
    seed: typeof body.seed === 'number' ? BigInt.asUintN(64, BigInt(body.seed)) : undefined,
    stop: stop === null || stop === undefined ? [] : typeof stop === 'string' ? [stop] : stop,
    stream: body.stream ?? false,
    includeUsage: body.stream_options?.include_usage ?? false,
    user: body.user ?? undefined,
    placement: body.causeway?.placement ?? undefined,
  };
}
