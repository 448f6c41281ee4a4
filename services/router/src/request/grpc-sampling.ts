/** Sampling options of causeway.inference.v1: the bounds are those of the HTTP API. */
import { fail } from '@causeway/errors';
import { type GenerationOptions, type LogitBias, MAX_LOGIT_BIAS } from '@causeway/openai';
import type { inferenceV1 } from '@causeway/proto';

type SamplingFields = Pick<
  GenerationOptions,
  'temperature' | 'topP' | 'topK' | 'seed' | 'minP' | 'repetitionPenalty' | 'presencePenalty' | 'frequencyPenalty' | 'logitBias'
>;

/** Checked, with the defaults filled in. @throws ServiceError `invalid_argument` naming the field. */
export function samplingOptions(message: inferenceV1.SamplingOptions | undefined): SamplingFields {
  return {
    temperature: ranged(message?.temperature ?? 1, 'temperature', 0, 2),
    topP: topP(message?.topP ?? 1),
    topK: message?.topK ?? 0,
    seed: message?.seed,
    minP: ranged(message?.minP ?? 0, 'min_p', 0, 1),
    repetitionPenalty: ranged(message?.repetitionPenalty ?? 1, 'repetition_penalty', 0.01, 100),
    presencePenalty: ranged(message?.presencePenalty ?? 0, 'presence_penalty', -2, 2),
    frequencyPenalty: ranged(message?.frequencyPenalty ?? 0, 'frequency_penalty', -2, 2),
    logitBias: logitBias(message?.logitBias ?? {}),
  };
}

function topP(value: number): number {
  if (value > 0 && value <= 1) return value;
  return refuse('top_p', 'above 0, at most 1', value);
}

function logitBias(map: Readonly<Record<number, number>>): readonly LogitBias[] {
  const entries = Object.entries(map);
  if (entries.length > MAX_LOGIT_BIAS) {
    const message = `sampling.logit_bias has ${entries.length} entries; at most ${MAX_LOGIT_BIAS} are taken`;
    fail('invalid_argument', 'bad_request', message, { field: 'sampling.logit_bias' });
  }
  return entries.map(([id, bias]) => ({ id: Number(id), bias: ranged(bias, `logit_bias[${id}]`, -100, 100) }));
}

/** NaN is in no range. */
function ranged(value: number, field: string, least: number, most: number): number {
  return value >= least && value <= most ? value : refuse(field, `from ${least} to ${most}`, value);
}

function refuse(field: string, rule: string, value: number): never {
  fail('invalid_argument', 'bad_sampling', `sampling.${field} must be ${rule}, not ${value}`, { field: `sampling.${field}` });
}
