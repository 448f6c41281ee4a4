/** A model's configuration, one struct for every dialect it was written in. Lengths in tokens, widths in elements. */

/** Rotary position embedding. Formulas: Hugging Face transformers, modeling_rope_utils.py. */
export type RopeConfig =
  | { type: 'default'; theta: number }
  | { type: 'linear'; theta: number; factor: number }
  | {
      type: 'llama3';
      theta: number;
      factor: number;
      lowFreqFactor: number;
      highFreqFactor: number;
      originalContextLength: number;
    }
  | {
      type: 'yarn';
      theta: number;
      factor: number;
      originalContextLength: number;
      betaFast: number;
      betaSlow: number;
      mscale?: number;
      mscaleAllDim?: number;
      attentionFactor?: number;
    };

/** Multi-head latent attention (DeepSeek-V2 and later). */
export interface MlaConfig {
  /** undefined: queries are projected in one step. */
  qLoraRank: number | undefined;
  kvLoraRank: number;
  qkNopeHeadDim: number;
  qkRopeHeadDim: number;
  vHeadDim: number;
  ropeInterleaved: boolean;
}

/** Mixture of experts. */
export interface MoeConfig {
  experts: number;
  expertsPerToken: number;
  groups: number;
  groupsPerToken: number;
  sharedExperts: number;
  /** Inner width of one expert. */
  expertInner: number;
  /** Leading layers with a dense MLP. */
  firstDenseLayers: number;
  normalizeTopK: boolean;
  routedScale: number;
  scoring: 'sigmoid' | 'softmax';
}

export interface ModelConfig {
  /** Hugging Face's model_type, or GGUF's general.architecture. */
  architecture: string;
  hiddenSize: number;
  layers: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  intermediateSize: number;
  vocabSize: number;
  contextLength: number;
  rmsNormEps: number;
  tieWordEmbeddings: boolean;
  rope: RopeConfig;
  mla: MlaConfig | undefined;
  moe: MoeConfig | undefined;
  eosTokenIds: number[];
  bosTokenId: number | undefined;
}
