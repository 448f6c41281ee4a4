/**
 * A model as the engine runs it: graph segments in sequence over named buffers.
 *
 * Reserved tensor names (B sequences, T new tokens each, R rows whose logits are wanted, V vocabulary):
 *   inputs   token_ids i64 [B, T] · position_ids i64 [B, T] · seqlens_k i32 [B] (total length - 1, as GroupQueryAttention
 *            wants it) · total_sequence_length i32 [1] (largest total length) · logit_rows i64 [R] (row = b * T + t)
 *   caches   past_k.<layer>, past_v.<layer> -> present_k.<layer>, present_v.<layer>, f32 [B, kvHeads, S, headDim];
 *            past and present are bound to the same slot memory. A latent layer binds all four to one buffer.
 *   output   logits f32 [R, V]
 * Every other input of a segment is an intermediate that an earlier segment outputs.
 */
import type { KvWireForm, LayerGeometry } from '@causeway/kv';
import type { ElementType, Tensor } from '@causeway/ort';

/** Dimension of an intermediate: a number, or the symbols B, T and N (= B * T). */
export type SymbolicDim = number | 'B' | 'T' | 'N' | 'R';

export interface ValueSpec {
  name: string;
  type: ElementType;
  shape: readonly SymbolicDim[];
}

/** What a segment holds: decoder layers (attention, dense MLP, router gate, shared experts) or the routed experts of one layer. */
export type SegmentKind =
  | { kind: 'decoder'; layers: readonly number[] }
  | { kind: 'experts'; layer: number }
  /** Computed elsewhere: it has no graph. Inputs: rows, ids and weights, in this order; its output is their sum. */
  | { kind: 'remote-experts'; layer: number };

export interface Segment {
  name: string;
  content: SegmentKind;
  /** Serialised ONNX ModelProto; large weights are external initialisers given by `initializers`. */
  graph: Uint8Array;
  /**
   * Makes its weights, by initialiser name: converts those that are not there. They stay valid until `releaseWeights`.
   * @throws ServiceError `cancelled` or `internal`
   */
  weights(): Promise<ReadonlyMap<string, Tensor>>;
  /** Frees its weights, but for those that another segment still has to have. Call once its session is made. */
  releaseWeights(): void;
  /** Names of reserved inputs and of intermediates read. */
  inputs: readonly ValueSpec[];
  /** Intermediates (or logits) written; present_* caches are not listed. */
  outputs: readonly ValueSpec[];
  /** Layers whose caches this segment reads and writes. */
  cacheLayers: readonly number[];
}

/** Whether a model's routed experts are computed by its own graphs or by others: `remote` leaves their weights out. */
export type ExpertsPlace = 'local' | 'remote';

/** Precision: `fast` rounds activations to int8 for quantised weights, `exact` keeps f32 activations. */
export type Precision = 'fast' | 'exact';

export interface LoadedModel extends Disposable {
  /** What its graphs round new keys and values to before attention; undefined: nothing. */
  kvRounding?: KvWireForm | undefined;
  architecture: string;
  layers: readonly LayerGeometry[];
  vocabSize: number;
  contextLength: number;
  hiddenSize: number;
  segments: readonly Segment[];
  /** Routed experts' and other weights' bytes as mapped or converted. */
  weightBytes: number;
  /** Frees everything that `weights` of its segments gave. Call once every session is made. */
  releaseWeights(): void;
}
