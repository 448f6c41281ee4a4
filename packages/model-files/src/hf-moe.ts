/** Mixture-of-experts fields of config.json. */
import { fail } from '@causeway/errors';
import { z } from 'zod';
import { LARGEST_SIZE } from './config-check.ts';
import type { MoeConfig, MoeScoring } from './model-config.ts';

const size = z.number().int().min(1).max(LARGEST_SIZE);
const SCORINGS: readonly MoeScoring[] = ['sigmoid', 'softmax', 'sqrtsoftplus'];

export const moeFields = {
  n_routed_experts: size.nullish(),
  num_experts_per_tok: size.nullish(),
  n_group: size.nullish(),
  topk_group: size.nullish(),
  n_shared_experts: z.number().int().nonnegative().nullish(),
  moe_intermediate_size: size.nullish(),
  intermediate_size: size.nullish(),
  first_k_dense_replace: z.number().int().nonnegative().nullish(),
  mlp_layer_types: z.array(z.string()).nullish(),
  mlp_only_layers: z.array(z.number().int().nonnegative()).nullish(),
  decoder_sparse_step: z.number().int().nullish(),
  moe_layer_freq: z.union([z.number(), z.array(z.number())]).nullish(),
  norm_topk_prob: z.boolean().nullish(),
  routed_scaling_factor: z.number().positive().finite().nullish(),
  scoring_func: z.string().nullish(),
  topk_method: z.string().nullish(),
};
type MoeFields = z.infer<z.ZodObject<typeof moeFields>>;

/** undefined for a dense model. @throws ServiceError `unsupported_format` for another scoring or scattered dense layers. */
export function readMoe(file: string, config: MoeFields, layers: number): MoeConfig | undefined {
  const { n_routed_experts: experts, num_experts_per_tok: expertsPerToken } = config;
  const expertInner = config.moe_intermediate_size ?? config.intermediate_size;
  if (experts == null || expertsPerToken == null || expertInner == null) return undefined;
  const named = config.scoring_func ?? undefined;
  const scoring = SCORINGS.find((known) => known === named);
  if (scoring !== named) {
    return fail(
      'unimplemented',
      'unsupported_format',
      `${file}: expert scoring ${named} is not supported; supported: ${SCORINGS.join(', ')}`,
    );
  }
  return {
    experts,
    expertsPerToken,
    groups: config.n_group ?? 1,
    groupsPerToken: config.topk_group ?? config.n_group ?? 1,
    sharedExperts: config.n_shared_experts ?? 0,
    expertInner,
    firstDenseLayers: firstDenseLayers(file, config, layers),
    normalizeTopK: config.norm_topk_prob ?? undefined,
    routedScale: config.routed_scaling_factor ?? 1,
    scoring,
    correctionBias: config.topk_method == null ? undefined : config.topk_method === 'noaux_tc',
  };
}

/** Dense layers must come first: a count, types per layer, or a list of dense layers say which they are. */
function firstDenseLayers(file: string, config: MoeFields, layers: number): number {
  const unsupported = (what: string): never =>
    fail('unimplemented', 'unsupported_format', `${file}: ${what}; dense layers before all MoE layers are supported`);
  for (const step of [config.decoder_sparse_step, config.moe_layer_freq].flat()) {
    if (step != null && step !== 1) unsupported(`MoE layers in steps of ${step}`);
  }
  if (config.first_k_dense_replace != null) return config.first_k_dense_replace;
  const dense = config.mlp_layer_types?.slice(0, layers).flatMap((type, layer) => (type === 'dense' ? [layer] : [])) ?? [
    ...new Set(config.mlp_only_layers),
  ];
  dense.sort((a, b) => a - b);
  const scattered = dense.find((layer, i) => layer !== i);
  if (scattered !== undefined) unsupported(`layer ${scattered} is dense after MoE layers`);
  return dense.length;
}
