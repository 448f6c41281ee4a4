/** GGUF metadata as a ModelConfig. Keys: ggml's docs/gguf.md. */
import { fail } from '@causeway/errors';
import { checkedConfig, LARGEST_SIZE } from './config-check.ts';
import type { GgufFile } from './gguf.ts';
import type { GgufValue } from './gguf-reader.ts';
import type { MlaConfig, ModelConfig, MoeConfig, MoeScoring, RopeConfig } from './model-config.ts';

const DEFAULT_THETA = 10_000;

/** The architecture's own numbers by key (without its prefix), checked. */
interface Keys {
  get(key: string): GgufValue | undefined;
  /** A whole number from 1 on. */
  size(key: string, fallback?: number): number;
  /** A positive number. */
  number(key: string, fallback?: number): number;
}

/** `general.architecture`. @throws ServiceError `malformed_file`. */
export function ggufArchitecture(path: string, file: GgufFile): string {
  const name = file.metadata.get('general.architecture');
  if (typeof name === 'string' && name.length > 0 && name.length <= 128) return name;
  return fail('invalid_argument', 'malformed_file', `${path}: general.architecture, the name of the architecture, is missing`);
}

/**
 * Reads the config, under the names of keys that all architectures have in common.
 * @throws ServiceError `malformed_file` naming the key that is missing or no number, `unsupported_format`.
 */
export function configFromGguf(path: string, file: GgufFile): ModelConfig {
  const architecture = ggufArchitecture(path, file);
  const keys = keysOf(path, file.metadata, architecture);
  const heads = keys.size('attention.head_count');
  const hiddenSize = keys.size('embedding_length');
  const mla = mlaOf(path, keys);
  const headDim =
    mla === undefined ? keys.size('attention.key_length', hiddenSize / heads) : mla.qkNopeHeadDim + mla.qkRopeHeadDim;
  const embedding = file.tensors.find((tensor) => tensor.name === 'token_embd.weight');
  return checkedConfig(path, {
    architecture,
    hiddenSize,
    layers: keys.size('block_count'),
    heads,
    kvHeads: keys.size('attention.head_count_kv', heads),
    headDim,
    intermediateSize: keys.size('feed_forward_length'),
    vocabSize: embedding?.shape[0] ?? keys.size('vocab_size'),
    contextLength: keys.size('context_length'),
    rmsNormEps: keys.number('attention.layer_norm_rms_epsilon'),
    tieWordEmbeddings: !file.tensors.some((tensor) => tensor.name === 'output.weight'),
    rope: ropeOf(path, keys, mla?.qkRopeHeadDim ?? headDim),
    slidingWindow: keys.get('attention.sliding_window') === undefined ? undefined : keys.size('attention.sliding_window'),
    mla,
    moe: moeOf(path, keys),
    eosTokenIds: endTokens(file),
    bosTokenId: tokenId(file, 'bos'),
  });
}

function tokenId(file: GgufFile, name: string): number | undefined {
  const id = file.metadata.get(`tokenizer.ggml.${name}_token_id`);
  return typeof id === 'number' ? id : undefined;
}

/**
 * Ends of an answer that files name no key for: those in the models' own generation_config.json, which llama.cpp too knows by their
 * text (llama-vocab.cpp, special_eog_ids).
 */
const END_TEXTS: ReadonlySet<GgufValue> = new Set(['<|eot_id|>', '<|eom_id|>', '<|end_of_text|>', '<|im_end|>', '<|endoftext|>']);
/** ggml's number of the type of tokens that are no text. */
const CONTROL = 3;

/** Ids that end an answer: those that the keys name first. */
function endTokens(file: GgufFile): number[] {
  const named = ['eos', 'eot', 'eom'].flatMap((name) => tokenId(file, name) ?? []);
  const tokens = file.metadata.get('tokenizer.ggml.tokens');
  const types = file.metadata.get('tokenizer.ggml.token_type');
  if (!Array.isArray(tokens) || !Array.isArray(types)) return [...new Set(named)];
  const known = tokens.flatMap((text, id) => (types[id] === CONTROL && END_TEXTS.has(text) ? [id] : []));
  return [...new Set([...named, ...known])];
}

/**
 * undefined without latent attention. Files in which K and V are split from each other state the sizes of the latent as those of a
 * key and a value, and the heads' own apart.
 */
function mlaOf(path: string, keys: Keys): MlaConfig | undefined {
  if (keys.get('attention.kv_lora_rank') === undefined) return undefined;
  const ofHead = (part: 'key' | 'value'): number =>
    keys.size(`attention.${part}_length${keys.get(`attention.${part}_length_mla`) === undefined ? '' : '_mla'}`);
  const qkRopeHeadDim = keys.size('rope.dimension_count');
  const qkNopeHeadDim = ofHead('key') - qkRopeHeadDim;
  if (qkNopeHeadDim < 1)
    fail('invalid_argument', 'malformed_file', `${path}: RoPE over ${qkRopeHeadDim} elements leaves nothing of a head's key`);
  return {
    qLoraRank: keys.get('attention.q_lora_rank') === undefined ? undefined : keys.size('attention.q_lora_rank'),
    kvLoraRank: keys.size('attention.kv_lora_rank'),
    qkNopeHeadDim,
    qkRopeHeadDim,
    vHeadDim: ofHead('value'),
    ropeInterleaved: true,
  };
}

/** `expert_gating_func` by llama.cpp's numbers (llama_expert_gating_func_type). */
const SCORINGS = new Map<GgufValue, MoeScoring>([
  [1, 'softmax'],
  [2, 'sigmoid'],
]);

/** undefined for a dense model. */
function moeOf(path: string, keys: Keys): MoeConfig | undefined {
  if ((keys.get('expert_count') ?? 0) === 0) return undefined;
  const optional = (key: string): number => (keys.get(key) === undefined || keys.get(key) === 0 ? 0 : keys.size(key));
  const gating = keys.get('expert_gating_func');
  const scoring = gating === undefined ? undefined : SCORINGS.get(gating);
  if (gating !== undefined && scoring === undefined) {
    fail('unimplemented', 'unsupported_format', `${path}: expert scoring ${String(gating).slice(0, 40)} is not supported`);
  }
  const normalizeTopK = keys.get('expert_weights_norm');
  const groups = keys.size('expert_group_count', 1);
  return {
    experts: keys.size('expert_count'),
    expertsPerToken: keys.size('expert_used_count'),
    groups,
    groupsPerToken: keys.size('expert_group_used_count', groups),
    sharedExperts: optional('expert_shared_count'),
    expertInner: keys.size('expert_feed_forward_length', keys.size('feed_forward_length')),
    firstDenseLayers: optional('leading_dense_block_count'),
    routedScale: keys.number('expert_weights_scale', 1),
    normalizeTopK: typeof normalizeTopK === 'boolean' ? normalizeTopK : undefined,
    scoring,
    // Whether there is one shows in the tensors.
    correctionBias: undefined,
  };
}

function ropeOf(path: string, keys: Keys, headDim: number): RopeConfig {
  const unsupported = (what: string): never => fail('unimplemented', 'unsupported_format', `${path}: ${what}`);
  const rotated = keys.size('rope.dimension_count', headDim);
  if (rotated !== headDim)
    return unsupported(`RoPE over ${rotated} of ${headDim} elements is not supported; over the whole head is`);
  const theta = keys.number('rope.freq_base', DEFAULT_THETA);
  const type = keys.get('rope.scaling.type') ?? 'none';
  if (type === 'none') return { type: 'default', theta };
  if (type === 'linear') return { type, theta, factor: keys.number('rope.scaling.factor') };
  if (type === 'yarn') {
    // 0.1 * mscale_all_dim. Of mscale, which files don't say, llama.cpp takes that it is the same, as it is in all models published.
    const logMultiplier = keys.get('rope.scaling.yarn_log_multiplier');
    const mscale = logMultiplier === undefined ? undefined : keys.number('rope.scaling.yarn_log_multiplier') / 0.1;
    return {
      type,
      theta,
      factor: keys.number('rope.scaling.factor'),
      originalContextLength: keys.size('rope.scaling.original_context_length'),
      betaFast: keys.number('rope.scaling.yarn_beta_fast', 32),
      betaSlow: keys.number('rope.scaling.yarn_beta_slow', 1),
      ...(mscale === undefined ? {} : { mscale, mscaleAllDim: mscale }),
    };
  }
  return unsupported(`RoPE scaling ${String(type).slice(0, 40)} is not supported; supported: none, linear, yarn`);
}

function keysOf(path: string, metadata: ReadonlyMap<string, GgufValue>, architecture: string): Keys {
  const get = (key: string): GgufValue | undefined => uniform(metadata.get(`${architecture}.${key}`));
  const number = (key: string, fallback?: number): number => {
    const value = get(key);
    if (value === undefined && fallback !== undefined) return fallback;
    const found = typeof value === 'bigint' ? Number(value) : value;
    if (typeof found === 'number' && Number.isFinite(found) && found > 0) return found;
    const what = value === undefined ? 'is missing' : `is not a positive number: ${String(value).slice(0, 40)}`;
    return fail('invalid_argument', 'malformed_file', `${path}: ${architecture}.${key} ${what}`);
  };
  const size = (key: string, fallback?: number): number => {
    const found = number(key, fallback);
    if (Number.isInteger(found) && found <= LARGEST_SIZE) return found;
    return fail(
      'invalid_argument',
      'malformed_file',
      `${path}: ${architecture}.${key} is ${found}, not a whole number up to ${LARGEST_SIZE}`,
    );
  };
  return { get, number, size };
}

/** A list with one value per layer counts as that value when all layers agree. */
function uniform(value: GgufValue | undefined): GgufValue | undefined {
  return Array.isArray(value) && value.length > 0 && value.every((item) => item === value[0]) ? value[0] : value;
}
