/** A model's configuration, one struct for every dialect it was written in. Lengths in tokens, widths in elements. */

/**
 * Rotary position embedding. Formulas: Hugging Face transformers, modeling_rope_utils.py. GGUF keeps the Llama 3.1 scaling in a
 * tensor instead (rope_freqs.weight): its config says `default`, and packages/models divides by that tensor.
 */
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

/** How a router turns logits into scores. */
export type MoeScoring = 'sigmoid' | 'softmax' | 'sqrtsoftplus';

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
  routedScale: number;
  // Of these the architecture knows what it means that a file is silent: undefined.
  normalizeTopK: boolean | undefined;
  scoring: MoeScoring | undefined;
  /** Experts are chosen by score plus a learned bias (`e_score_correction_bias`). */
  correctionBias: boolean | undefined;
}

export interface ModelConfig {
  /** By the name that the files give it, as in Checkpoint. */
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
  /** Tokens that some layers look back at most; undefined: all layers see everything. */
  slidingWindow: number | undefined;
  mla: MlaConfig | undefined;
  moe: MoeConfig | undefined;
  /** Ids that end an answer: those of every file of the checkpoint. */
  eosTokenIds: number[];
  bosTokenId: number | undefined;
}
