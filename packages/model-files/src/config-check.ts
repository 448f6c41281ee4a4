/** What holds for every config, whatever it was read from. */
import { fail, ServiceError } from '@causeway/errors';
import type { ModelConfig } from './model-config.ts';

/** A size as config files state it: more than this is damage. */
export const LARGEST_SIZE = 100_000_000;

/** Architectures whose every field is read here. Of others only the name is sure; packages/models says which it can run. */
const READ_ARCHITECTURES: ReadonlySet<string> = new Set([
  'llama',
  'qwen2',
  'qwen3',
  'qwen3_moe',
  'deepseek_v2',
  'deepseek_v3',
  'kimi_k2',
]);

/**
 * Reads and checks a config. An architecture that is not read here passes with its name even when its fields make no sense:
 * then sizes are 0, and whoever knows which architectures run refuses it by name.
 * @throws ServiceError of `read`, or `malformed_file` naming fields that contradict each other.
 */
export function checkedConfig(file: string, architecture: string, read: () => ModelConfig): ModelConfig {
  try {
    const config = read();
    checkFields(file, config);
    return config;
  } catch (error) {
    if (READ_ARCHITECTURES.has(architecture) || !(error instanceof ServiceError)) throw error;
    return nameOnly(architecture);
  }
}

function checkFields(file: string, config: ModelConfig): void {
  const bad = (what: string): never => fail('invalid_argument', 'malformed_file', `${file}: ${what}`);
  const { heads, kvHeads, headDim, mla, moe } = config;
  if (heads % kvHeads !== 0) bad(`${heads} attention heads cannot share ${kvHeads} key-value heads evenly`);
  const rotated = mla?.qkRopeHeadDim ?? headDim;
  if (!Number.isInteger(rotated) || rotated % 2 !== 0)
    bad(`a head of ${rotated} elements cannot be rotated in pairs (hidden size ${config.hiddenSize}, ${heads} heads)`);
  if (moe === undefined) return;
  const { experts, groups } = moe;
  if (experts % groups !== 0) bad(`${experts} experts cannot be split into ${groups} groups`);
  if (moe.groupsPerToken > groups) bad(`${moe.groupsPerToken} groups per token are more than the ${groups} there are`);
  if (moe.expertsPerToken > (experts / groups) * moe.groupsPerToken)
    bad(`${moe.expertsPerToken} experts per token are more than ${moe.groupsPerToken} of ${groups} groups of ${experts} hold`);
  if (moe.firstDenseLayers > config.layers)
    bad(`${moe.firstDenseLayers} dense layers are more than the ${config.layers} there are`);
}

function nameOnly(architecture: string): ModelConfig {
  return {
    architecture,
    hiddenSize: 0,
    layers: 0,
    heads: 0,
    kvHeads: 0,
    headDim: 0,
    intermediateSize: 0,
    vocabSize: 0,
    contextLength: 0,
    rmsNormEps: 0,
    tieWordEmbeddings: false,
    rope: { type: 'default', theta: 1 },
    mla: undefined,
    moe: undefined,
    eosTokenIds: [],
    bosTokenId: undefined,
  };
}
