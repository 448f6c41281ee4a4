/** Tensors of the architectures by llama.cpp's names (gguf-py/gguf/tensor_mapping.py), outside of blocks and in each. */
import type { Extent } from './families.ts';

export interface ModelSizes {
  /** `general.architecture`. */
  architecture: 'llama' | 'qwen2' | 'qwen3' | 'deepseek2';
  layers: number;
  hidden: number;
  inner: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  /** Latent attention; with one KV head K's and V's part of kv_b are apart. */
  latent?: { rank: number; ropeDim: number; valueDim: number };
  moe?: { experts: number; inner: number; shared: number; denseLayers: number };
}

/** Size of the elements of Q and K: a query finds a few keys among hundreds. */
const SHARPNESS = 1.8;

export interface NamedMatrix {
  name: string;
  /** Innermost first. */
  dims: readonly number[];
  /** What stays f32 when the others are quantised: norms, biases, routers. */
  kind: 'f32' | 'mixed';
  /** Standard deviation of its weights: numbers stay of about one size from layer to layer. */
  deviation: number;
  /** Default 0. */
  mean?: number;
}

/** A matrix whose products are about `gain` times as large as what it is applied to. */
function matrix(name: string, rows: number, columns: number, gain = 1, ...stacked: number[]): NamedMatrix {
  return { name: `${name}.weight`, dims: [columns, rows, ...stacked], kind: 'mixed', deviation: gain / Math.sqrt(columns) };
}

/** Weights of a norm. */
function norm(name: string, count: number, mean = 1): NamedMatrix {
  return { name: `${name}.weight`, dims: [count], kind: 'f32', deviation: mean / 5, mean };
}

/**
 * What blocks add to the stream outweighs the token table's vectors, or a table that is also the output would only repeat the last token.
 * Attention is a mean over many tokens, and so smaller than what it is of; of experts a few small shares are added up.
 */
const GAIN = { attention: 3, mlp: 2, experts: 10 } as const;

function plainAttention(block: string, sizes: ModelSizes): NamedMatrix[] {
  const { architecture, hidden, heads, kvHeads, headDim } = sizes;
  const [q, kv] = [heads * headDim, kvHeads * headDim];
  const headNorms = ['attn_q_norm', 'attn_k_norm'].map((name) => norm(`${block}.${name}`, headDim, SHARPNESS));
  const bias = (name: string, count: number, deviation: number): NamedMatrix => {
    return { name: `${block}.${name}.bias`, dims: [count], kind: 'f32', deviation };
  };
  const biases = [bias('attn_q', q, 1), bias('attn_k', kv, 1), bias('attn_v', kv, 0.1)];
  return [
    matrix(`${block}.attn_q`, q, hidden, SHARPNESS),
    matrix(`${block}.attn_k`, kv, hidden, SHARPNESS),
    matrix(`${block}.attn_v`, kv, hidden),
    ...(architecture === 'qwen2' ? biases : []),
    ...(architecture === 'qwen3' ? headNorms : []),
    matrix(`${block}.attn_output`, hidden, q, GAIN.attention),
  ];
}

function latentAttention(block: string, sizes: ModelSizes, latent: NonNullable<ModelSizes['latent']>): NamedMatrix[] {
  const { hidden, heads, kvHeads, headDim } = sizes;
  const { rank, ropeDim, valueDim } = latent;
  const nope = headDim - ropeDim;
  // K's part is applied to the query's, not to the latent.
  const apart: NamedMatrix[] = [
    { ...matrix(`${block}.attn_k_b`, rank, nope, 1, heads), deviation: 1 / Math.sqrt(rank) },
    matrix(`${block}.attn_v_b`, valueDim, rank, 1, heads),
  ];
  return [
    matrix(`${block}.attn_q`, heads * headDim, hidden, SHARPNESS),
    matrix(`${block}.attn_kv_a_mqa`, rank + ropeDim, hidden, SHARPNESS),
    norm(`${block}.attn_kv_a_norm`, rank),
    ...(kvHeads === 1 ? apart : [matrix(`${block}.attn_kv_b`, heads * (nope + valueDim), rank)]),
    matrix(`${block}.attn_output`, hidden, heads * valueDim, GAIN.attention),
  ];
}

function denseMlp(block: string, hidden: number, inner: number, suffix = ''): NamedMatrix[] {
  return [
    matrix(`${block}.ffn_gate${suffix}`, inner, hidden),
    matrix(`${block}.ffn_up${suffix}`, inner, hidden),
    matrix(`${block}.ffn_down${suffix}`, hidden, inner, GAIN.mlp),
  ];
}

function mixture(block: string, hidden: number, moe: NonNullable<ModelSizes['moe']>, experts: number): NamedMatrix[] {
  return [
    { name: `${block}.ffn_gate_inp.weight`, dims: [hidden, experts], kind: 'f32', deviation: 2 / Math.sqrt(hidden) },
    matrix(`${block}.ffn_gate_exps`, moe.inner, hidden, 1, experts),
    matrix(`${block}.ffn_up_exps`, moe.inner, hidden, 1, experts),
    matrix(`${block}.ffn_down_exps`, hidden, moe.inner, GAIN.experts, experts),
    ...denseMlp(block, hidden, moe.inner * moe.shared, '_shexp'),
  ];
}

/** All tensors of a file. Only DeepSeek's output is not the token table. */
export function namedMatrices(sizes: ModelSizes, { layers, experts }: Extent, tokens: number): NamedMatrix[] {
  const { hidden, inner, latent, moe } = sizes;
  const blocks = Array.from({ length: layers }, (_, layer) => {
    const block = `blk.${layer}`;
    return [
      norm(`${block}.attn_norm`, hidden),
      ...(latent === undefined ? plainAttention(block, sizes) : latentAttention(block, sizes, latent)),
      norm(`${block}.ffn_norm`, hidden),
      ...(moe !== undefined && layer >= moe.denseLayers ? mixture(block, hidden, moe, experts) : denseMlp(block, hidden, inner)),
    ];
  });
  return [
    matrix('token_embd', tokens, hidden, 2.5),
    ...blocks.flat(),
    norm('output_norm', hidden),
    ...(latent === undefined ? [] : [matrix('output', tokens, hidden, 2.5)]),
  ];
}
