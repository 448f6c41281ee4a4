/**
 * Models that people have as GGUF files, with random weights: metadata, tensor names, shapes and types as in the published files of
 * Q4_K_M. Names and order of keys: llama.cpp's conversion; sizes: the models' own config.json. Vocabularies are smaller unless `full`.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type GgufMetadataValue, type GgufTensorPlan, writeGgufFile } from '@causeway/testkit';
import { namedMatrices, type ModelSizes } from './matrices.ts';
import { blockElements, randomPlan, valuesPlan, type WeightType } from './random-weights.ts';
import { type SpecialToken, TOKEN_TYPE, vocabulary, type Vocabulary } from './vocabulary.ts';

export interface Family {
  /** Of the file, without `.gguf`. */
  name: string;
  sizes: ModelSizes;
  /** As few layers as show every kind. */
  fewLayers: number;
  special: readonly SpecialToken[];
  /** Of the published model; `padding` of them are tokens without a text. */
  vocabularySize: number;
  padding: number;
  /** Tokens by role, as `tokenizer.ggml.<role>_token_id`. */
  roles: Readonly<Record<string, string>>;
  /** All other metadata of the tokenizer. */
  tokenizer: Readonly<Record<string, GgufMetadataValue>>;
  /** File of the chat template, in tests/chat-templates. */
  chatTemplate: string;
  /** What `template` makes of one user message, as the model has it in its prompt. */
  rendered: (content: string) => string;
  /** Keys below the architecture's name. */
  keys: Readonly<Record<string, GgufMetadataValue>>;
}

const control = (...texts: string[]): SpecialToken[] => texts.map((text) => ({ text, type: TOKEN_TYPE.control }));
const plain = (...texts: string[]): SpecialToken[] => texts.map((text) => ({ text, type: TOKEN_TYPE.userDefined }));
const u32 = (value: number) => ({ u32: value });
const f32 = (value: number) => ({ f32: value });

const chatMl = (content: string): string => `<|im_start|>user\n${content}<|im_end|>\n<|im_start|>assistant\n`;

const QWEN_SPECIAL = [
  ...control('<|endoftext|>', '<|im_start|>', '<|im_end|>', '<|object_ref_start|>', '<|object_ref_end|>', '<|box_start|>'),
  ...control('<|box_end|>', '<|quad_start|>', '<|quad_end|>', '<|vision_start|>', '<|vision_end|>', '<|vision_pad|>'),
  ...control('<|image_pad|>', '<|video_pad|>'),
  ...plain('<tool_call>', '</tool_call>', '<|fim_prefix|>', '<|fim_middle|>', '<|fim_suffix|>', '<|fim_pad|>'),
  ...plain('<|repo_name|>', '<|file_sep|>'),
];
const QWEN_ROLES = { eos: '<|im_end|>', padding: '<|endoftext|>', bos: '<|endoftext|>' };

const llama32: Family = {
  name: 'Llama-3.2-1B-Instruct-Q4_K_M',
  sizes: { architecture: 'llama', layers: 16, hidden: 2048, inner: 8192, heads: 32, kvHeads: 8, headDim: 64 },
  fewLayers: 2,
  special: [
    ...control('<|begin_of_text|>', '<|end_of_text|>', '<|reserved_special_token_0|>', '<|reserved_special_token_1|>'),
    ...control('<|finetune_right_pad_id|>', '<|reserved_special_token_2|>', '<|start_header_id|>', '<|end_header_id|>'),
    ...control('<|eom_id|>', '<|eot_id|>', '<|python_tag|>'),
    ...control(...Array.from({ length: 245 }, (_, i) => `<|reserved_special_token_${i + 3}|>`)),
  ],
  vocabularySize: 128_256,
  padding: 0,
  roles: { bos: '<|begin_of_text|>', eos: '<|eot_id|>' },
  tokenizer: { 'tokenizer.ggml.pre': { text: 'llama-bpe' } },
  chatTemplate: 'llama3',
  rendered: (content) =>
    '<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n' +
    `${content}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n`,
  keys: {
    context_length: u32(131_072),
    'attention.key_length': u32(64),
    'attention.value_length': u32(64),
    'attention.layer_norm_rms_epsilon': f32(1e-5),
    'rope.freq_base': f32(500_000),
    'rope.dimension_count': u32(64),
  },
};

const qwen25: Family = {
  name: 'Qwen2.5-0.5B-Instruct-Q4_K_M',
  sizes: { architecture: 'qwen2', layers: 24, hidden: 896, inner: 4864, heads: 14, kvHeads: 2, headDim: 64 },
  fewLayers: 3,
  special: QWEN_SPECIAL,
  vocabularySize: 151_936,
  padding: 271,
  roles: QWEN_ROLES,
  tokenizer: { 'tokenizer.ggml.pre': { text: 'qwen2' }, 'tokenizer.ggml.add_bos_token': { bool: false } },
  chatTemplate: 'qwen3',
  rendered: chatMl,
  keys: {
    context_length: u32(32_768),
    'attention.layer_norm_rms_epsilon': f32(1e-6),
    'rope.freq_base': f32(1_000_000),
  },
};

const qwen3: Family = {
  name: 'Qwen3-0.6B-Q4_K_M',
  sizes: { architecture: 'qwen3', layers: 28, hidden: 1024, inner: 3072, heads: 16, kvHeads: 8, headDim: 128 },
  fewLayers: 3,
  special: [...QWEN_SPECIAL, ...plain('<tool_response>', '</tool_response>', '<think>', '</think>')],
  vocabularySize: 151_936,
  padding: 267,
  roles: QWEN_ROLES,
  tokenizer: { 'tokenizer.ggml.pre': { text: 'qwen2' }, 'tokenizer.ggml.add_bos_token': { bool: false } },
  chatTemplate: 'qwen3',
  rendered: chatMl,
  keys: {
    context_length: u32(40_960),
    'attention.key_length': u32(128),
    'attention.value_length': u32(128),
    'attention.layer_norm_rms_epsilon': f32(1e-6),
    'rope.freq_base': f32(1_000_000),
  },
};

/** About a quarter of the published widths, with the published heads, layers and experts. llama.cpp knows a V2-Lite by its 27 layers. */
const deepseekV2Lite: Family = {
  name: 'DeepSeek-V2-Lite-Chat-Q4_K_M',
  sizes: {
    architecture: 'deepseek2',
    layers: 27,
    hidden: 512,
    inner: 2752,
    heads: 16,
    kvHeads: 16,
    headDim: 192,
    latent: { rank: 512, ropeDim: 64, valueDim: 128 },
    moe: { experts: 64, inner: 352, shared: 2, denseLayers: 1 },
  },
  fewLayers: 27,
  special: [
    ...control('<｜begin▁of▁sentence｜>', '<｜end▁of▁sentence｜>'),
    ...plain(
      '<｜fim▁hole｜>',
      '<｜fim▁begin｜>',
      '<｜fim▁end｜>',
      '<｜completion｜>',
      '<｜User｜>',
      '<｜Assistant｜>',
      '<|EOT|>',
    ),
  ],
  vocabularySize: 102_400,
  padding: 2385,
  roles: { bos: '<｜begin▁of▁sentence｜>', eos: '<｜end▁of▁sentence｜>', padding: '<｜end▁of▁sentence｜>' },
  tokenizer: {
    'tokenizer.ggml.pre': { text: 'deepseek-llm' },
    'tokenizer.ggml.add_bos_token': { bool: true },
    'tokenizer.ggml.add_eos_token': { bool: false },
  },
  chatTemplate: 'deepseek-v2',
  rendered: (content) => `<｜begin▁of▁sentence｜>User: ${content}\n\nAssistant:`,
  keys: {
    context_length: u32(163_840),
    'attention.layer_norm_rms_epsilon': f32(1e-6),
    'rope.freq_base': f32(10_000),
    expert_used_count: u32(6),
    leading_dense_block_count: u32(1),
    'attention.kv_lora_rank': u32(512),
    expert_feed_forward_length: u32(352),
    expert_shared_count: u32(2),
    expert_weights_scale: f32(1),
    'rope.dimension_count': u32(64),
    'rope.scaling.type': { text: 'yarn' },
    'rope.scaling.factor': f32(40),
    'rope.scaling.original_context_length': u32(4096),
    'rope.scaling.yarn_log_multiplier': f32(0.0707),
  },
};

/** How files of latent attention were written before K's and V's part of kv_b were apart, and what is said since. */
const LATENT_KEYS = {
  together: { 'attention.head_count_kv': u32(16), 'attention.key_length': u32(192), 'attention.value_length': u32(128) },
  apart: {
    'attention.head_count_kv': u32(1),
    'attention.key_length': u32(576),
    'attention.value_length': u32(512),
    'attention.key_length_mla': u32(192),
    'attention.value_length_mla': u32(128),
    expert_gating_func: u32(1),
    expert_weights_norm: { bool: false },
    expert_group_count: u32(1),
    expert_group_used_count: u32(1),
  },
} as const;

export const FAMILIES: readonly Family[] = [
  llama32,
  qwen25,
  qwen3,
  {
    ...deepseekV2Lite,
    name: 'DeepSeek-V2-Lite-Chat-Q4_K_M-2024',
    keys: { ...deepseekV2Lite.keys, ...LATENT_KEYS.together },
  },
  {
    ...deepseekV2Lite,
    sizes: { ...deepseekV2Lite.sizes, kvHeads: 1 },
    keys: { ...deepseekV2Lite.keys, ...LATENT_KEYS.apart },
  },
];

/** Layers, experts and tokens of a file. */
export interface Extent {
  layers: number;
  /** Of a mixture. */
  experts: number;
  /** The whole vocabulary of the published model. */
  wholeVocabulary: boolean;
}

/** Small enough for every run of the tests. */
export function smallExtent(family: Family): Extent {
  return { layers: family.fewLayers, experts: 8, wholeVocabulary: false };
}

/** All layers, experts and tokens. */
export function fullExtent({ sizes }: Family): Extent {
  return { layers: sizes.layers, experts: sizes.moe?.experts ?? 0, wholeVocabulary: true };
}

/** The vocabulary of a file. */
export function familyVocabulary(family: Family, { wholeVocabulary }: Extent): Vocabulary {
  const { special, vocabularySize, padding } = family;
  return vocabulary(special, wholeVocabulary ? { size: vocabularySize, padding } : { padding: Math.min(padding, 7) });
}

/** Divisors of Llama 3.2's scaling for each pair: factor 32, low 1, high 4, 8192 tokens (config.json, rope_scaling). */
function ropeDivisors(headDim: number): Float32Array {
  return Float32Array.from({ length: headDim / 2 }, (_, i) => {
    const wavelength = 2 * Math.PI * 500_000 ** ((2 * i) / headDim);
    if (wavelength < 8192 / 4) return 1;
    if (wavelength > 8192) return 32;
    const smooth = (8192 / wavelength - 1) / 3;
    return 1 / ((1 - smooth) / 32 + smooth);
  });
}

/** Of a tensor in a file of Q4_K_M (llama.cpp's llama-quant.cpp): more bits for some; another type where rows are not whole blocks. */
function mixedType(name: string, columns: number, layers: number): WeightType {
  const [, layer = '0', part = name] = /^blk\.(\d+)\.(\w+)\.weight$/.exec(name) ?? [];
  const i = Number(layer);
  const more = i < Math.floor(layers / 8) || i >= Math.floor((7 * layers) / 8) || (i - Math.floor(layers / 8)) % 3 === 2;
  const grows = part === 'attn_v' || part.startsWith('ffn_down');
  const wanted = name === 'token_embd.weight' || name === 'output.weight' || (grows && more) ? 'Q6_K' : 'Q4_K';
  if (columns % blockElements(wanted) === 0) return wanted;
  return wanted === 'Q6_K' ? 'Q8_0' : 'Q5_0';
}

function tensorPlans(family: Family, extent: Extent, tokens: number): GgufTensorPlan[] {
  const { sizes } = family;
  let seed = 1;
  const plans: GgufTensorPlan[] = [];
  if (sizes.architecture === 'llama')
    plans.push(valuesPlan('rope_freqs.weight', [sizes.headDim / 2], ropeDivisors(sizes.headDim)));
  for (const { name, dims, kind, deviation, mean } of namedMatrices(sizes, extent, tokens)) {
    const type = kind === 'f32' ? 'F32' : mixedType(name, dims[0] ?? 0, extent.layers);
    plans.push(randomPlan(name, dims, type, { seed: seed++, deviation, mean: mean ?? 0 }));
  }
  return plans;
}

/** Writes the file, some ten to hundred MB for each layer. */
export function writeFamily(path: string, family: Family, extent: Extent): void {
  const { sizes, keys, roles, tokenizer } = family;
  const { tokens, types, merges, id } = familyVocabulary(family, extent);
  const template = readFileSync(join(import.meta.dirname, `../chat-templates/${family.chatTemplate}.jinja`), 'utf8');
  const own: Record<string, GgufMetadataValue> = {
    block_count: u32(extent.layers),
    embedding_length: u32(sizes.hidden),
    feed_forward_length: u32(sizes.inner),
    'attention.head_count': u32(sizes.heads),
    'attention.head_count_kv': u32(sizes.kvHeads),
    vocab_size: u32(tokens.length),
    ...(sizes.moe === undefined ? {} : { expert_count: u32(extent.experts) }),
    ...keys,
  };
  const metadata: [string, GgufMetadataValue][] = [
    ['general.architecture', { text: sizes.architecture }],
    ['general.type', { text: 'model' }],
    ['general.name', { text: family.name.replace(/-Q4_K_M.*/, '').replaceAll('-', ' ') }],
    ['general.finetune', { text: 'Instruct' }],
    ['general.languages', { texts: ['en', 'de'] }],
    ...Object.entries(own).map(([key, value]): [string, GgufMetadataValue] => [`${sizes.architecture}.${key}`, value]),
    ['general.file_type', u32(15)],
    ['tokenizer.ggml.model', { text: 'gpt2' }],
    ...Object.entries(tokenizer),
    ['tokenizer.ggml.tokens', { texts: tokens }],
    ['tokenizer.ggml.token_type', { i32s: types }],
    ['tokenizer.ggml.merges', { texts: merges }],
    ...Object.entries(roles).map(([role, text]): [string, GgufMetadataValue] => [
      `tokenizer.ggml.${role}_token_id`,
      u32(id(text)),
    ]),
    ['tokenizer.chat_template', { text: template }],
    ['general.quantization_version', u32(2)],
  ];
  writeGgufFile(path, metadata, tensorPlans(family, extent, tokens.length));
}
