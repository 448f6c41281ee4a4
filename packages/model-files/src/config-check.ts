/** What holds for every config, whatever it was read from. */
import { fail } from '@causeway/errors';
import type { ModelConfig } from './model-config.ts';

/** A size as config files state it: more than this is damage. */
export const LARGEST_SIZE = 100_000_000;

/** Gives the config back. @throws ServiceError `malformed_file` naming fields that contradict each other. */
export function checkedConfig(file: string, config: ModelConfig): ModelConfig {
  const bad = (what: string): never => fail('invalid_argument', 'malformed_file', `${file}: ${what}`);
  const { heads, kvHeads, headDim, mla, moe } = config;
  if (heads % kvHeads !== 0) bad(`${heads} attention heads cannot share ${kvHeads} key-value heads evenly`);
  const rotated = mla?.qkRopeHeadDim ?? headDim;
  if (!Number.isInteger(rotated) || rotated % 2 !== 0)
    bad(`a head of ${rotated} elements cannot be rotated in pairs (hidden size ${config.hiddenSize}, ${heads} heads)`);
  if (moe === undefined) return config;
  const { experts, groups } = moe;
  if (experts % groups !== 0) bad(`${experts} experts cannot be split into ${groups} groups`);
  if (moe.groupsPerToken > groups) bad(`${moe.groupsPerToken} groups per token are more than the ${groups} there are`);
  if (moe.expertsPerToken > (experts / groups) * moe.groupsPerToken)
    bad(`${moe.expertsPerToken} experts per token are more than ${moe.groupsPerToken} of ${groups} groups of ${experts} hold`);
  if (moe.firstDenseLayers > config.layers)
    bad(`${moe.firstDenseLayers} dense layers are more than the ${config.layers} there are`);
  return config;
}
