/** RoPE settings of config.json: transformers v4 (`rope_theta`, `rope_scaling`) and v5 (`rope_parameters`). */
import { fail } from '@causeway/errors';
import { z } from 'zod';
import { LARGEST_SIZE } from './config-check.ts';
import type { RopeConfig } from './model-config.ts';

const positive = z.number().positive().finite();
const DEFAULT_THETA = 10_000;

export const ropeSchema = z.looseObject({
  rope_type: z.string().optional(),
  type: z.string().optional(),
  rope_theta: positive.optional(),
  factor: positive.nullish(),
  low_freq_factor: positive.nullish(),
  high_freq_factor: positive.nullish(),
  original_max_position_embeddings: z.number().int().min(1).max(LARGEST_SIZE).nullish(),
  beta_fast: positive.nullish(),
  beta_slow: positive.nullish(),
  mscale: z.number().finite().nullish(),
  mscale_all_dim: z.number().finite().nullish(),
  attention_factor: positive.nullish(),
  partial_rotary_factor: positive.nullish(),
});

export interface RopeFields {
  rope_theta?: number | undefined;
  rope_scaling?: z.infer<typeof ropeSchema> | null | undefined;
  rope_parameters?: z.infer<typeof ropeSchema> | null | undefined;
  partial_rotary_factor?: number | null | undefined;
}

/**
 * `ownPart`: the model rotates a part of the head that is stated elsewhere (latent attention), so a partial factor says nothing new.
 * @throws ServiceError `malformed_file` for a missing number, `unsupported_format` for another kind of RoPE.
 */
export function readRope(file: string, config: RopeFields, contextLength: number, ownPart: boolean): RopeConfig {
  const rope = { ...config.rope_scaling, ...config.rope_parameters };
  const theta = rope.rope_theta ?? config.rope_theta ?? DEFAULT_THETA;
  const type = rope.rope_type ?? rope.type ?? 'default';
  const originalContextLength = rope.original_max_position_embeddings ?? contextLength;
  const need = (name: 'factor' | 'low_freq_factor' | 'high_freq_factor'): number =>
    rope[name] ?? fail('invalid_argument', 'malformed_file', `${file}: RoPE type ${type} needs ${name}`);
  const unsupported = (what: string): never => fail('unimplemented', 'unsupported_format', `${file}: ${what}`);
  const partial = rope.partial_rotary_factor ?? config.partial_rotary_factor ?? 1;
  if (partial !== 1 && !ownPart) return unsupported(`RoPE over ${partial} of a head is not supported; over the whole is`);
  switch (type) {
    case 'default':
    case 'mrope':
      return { type: 'default', theta };
    case 'linear':
      return { type, theta, factor: need('factor') };
    case 'llama3':
      return {
        type,
        theta,
        factor: need('factor'),
        lowFreqFactor: need('low_freq_factor'),
        highFreqFactor: need('high_freq_factor'),
        originalContextLength,
      };
    case 'yarn':
      return {
        type,
        theta,
        factor: need('factor'),
        originalContextLength,
        betaFast: rope.beta_fast ?? 32,
        betaSlow: rope.beta_slow ?? 1,
        ...(rope.mscale == null ? {} : { mscale: rope.mscale }),
        ...(rope.mscale_all_dim == null ? {} : { mscaleAllDim: rope.mscale_all_dim }),
        ...(rope.attention_factor == null ? {} : { attentionFactor: rope.attention_factor }),
      };
    default:
      return unsupported(`RoPE type ${type} is not supported; supported: default, linear, llama3, yarn`);
  }
}
