/** A checkpoint as llama.cpp's converter writes it, for tests: other names, and the rows of Q and K in another order. */
import type { Checkpoint, ModelConfig } from '@causeway/model-files';
import { memoryCheckpoint, storedF32, type StoredTensor } from './memory-checkpoint.ts';

/** GGUF names by Hugging Face's (gguf-py/gguf/tensor_mapping.py), without `.weight` and `.bias`; those in blocks without prefix. */
const NAMES: ReadonlyMap<string, string> = new Map([
  ['model.embed_tokens', 'token_embd'],
  ['model.norm', 'output_norm'],
  ['lm_head', 'output'],
  ['input_layernorm', 'attn_norm'],
  ['self_attn.q_proj', 'attn_q'],
  ['self_attn.k_proj', 'attn_k'],
  ['self_attn.v_proj', 'attn_v'],
  ['self_attn.o_proj', 'attn_output'],
  ['self_attn.q_norm', 'attn_q_norm'],
  ['self_attn.k_norm', 'attn_k_norm'],
  ['post_attention_layernorm', 'ffn_norm'],
  ['mlp.gate_proj', 'ffn_gate'],
  ['mlp.up_proj', 'ffn_up'],
  ['mlp.down_proj', 'ffn_down'],
  ['mlp.gate', 'ffn_gate_inp'],
  ['self_attn.q_a_proj', 'attn_q_a'],
  ['self_attn.q_a_layernorm', 'attn_q_a_norm'],
  ['self_attn.q_b_proj', 'attn_q_b'],
  ['self_attn.kv_a_proj_with_mqa', 'attn_kv_a_mqa'],
  ['self_attn.kv_a_layernorm', 'attn_kv_a_norm'],
  ['self_attn.kv_b_proj', 'attn_kv_b'],
  ['mlp.shared_experts.gate_proj', 'ffn_gate_shexp'],
  ['mlp.shared_experts.up_proj', 'ffn_up_shexp'],
  ['mlp.shared_experts.down_proj', 'ffn_down_shexp'],
]);
/** Parts of the experts; all of a layer are one tensor. */
const EXPERTS = new Map([
  ['gate_proj', 'ffn_gate_exps'],
  ['up_proj', 'ffn_up_exps'],
  ['down_proj', 'ffn_down_exps'],
]);

function ggufName(name: string): string {
  const [, layer = '', inner = name] = /^model\.layers\.(\d+)\.(.+)$/.exec(name) ?? [];
  if (inner === 'mlp.gate.e_score_correction_bias') return `blk.${layer}.exp_probs_b.bias`;
  const dot = inner.lastIndexOf('.');
  const known = NAMES.get(inner.slice(0, dot));
  if (known === undefined) throw new Error(`no GGUF name for ${name}`);
  return `${layer === '' ? '' : `blk.${layer}.`}${known}${inner.slice(dot)}`;
}

/** Rows of each head of a matrix or bias, first and second half interleaved (convert_hf_to_gguf.py, `permute`). */
function permuted({ type, shape, bytes }: StoredTensor, headDim: number): StoredTensor {
  const rows = shape[0] ?? 0;
  const rowBytes = bytes.byteLength / rows;
  const result = new Uint8Array(bytes.byteLength);
  for (let row = 0; row < rows; row++) {
    const inHead = row % headDim;
    const half = headDim / 2;
    const target = row - inHead + (inHead < half ? 2 * inHead : 2 * (inHead - half) + 1);
    result.set(bytes.subarray(row * rowBytes, (row + 1) * rowBytes), target * rowBytes);
  }
  return { type, shape, bytes: result };
}

/**
 * kv_b as newer files have it (conversion/deepseek.py, `modify_tensors`): of each head K's part, turned to [rank, nopeDim], and V's
 * [valueDim, rank].
 */
function splitLatent({ shape, bytes }: StoredTensor, { heads, mla }: ModelConfig): { keys: StoredTensor; values: StoredTensor } {
  const { qkNopeHeadDim: nope = 0, vHeadDim: value = 0 } = mla ?? {};
  const rank = shape[1] ?? 0;
  const all = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  const keys = Float32Array.from({ length: heads * rank * nope }, (_, i) => {
    const [head, column, row] = [Math.floor(i / (rank * nope)), Math.floor(i / nope) % rank, i % nope];
    return all[(head * (nope + value) + row) * rank + column] ?? 0;
  });
  const values = Float32Array.from({ length: heads * value * rank }, (_, i) => {
    const head = Math.floor(i / (value * rank));
    return all[i + (head + 1) * nope * rank] ?? 0;
  });
  return { keys: storedF32([heads, rank, nope], keys), values: storedF32([heads, value, rank], values) };
}

/** The same model in a GGUF file of `architecture`; with `latentSplit` kv_b is in two tensors. */
export function asGguf(checkpoint: Checkpoint, architecture: string, permute: boolean, latentSplit = false): Checkpoint {
  const { config } = checkpoint;
  const tensors = new Map<string, StoredTensor>();
  for (const { name, type, shape } of checkpoint.tensors.values()) {
    const { buffer, offset, byteLength } = checkpoint.data(name);
    const stored = { type, shape, bytes: buffer.bytes(offset, byteLength).slice() };
    const [, layer, expert, part = ''] = /^model\.layers\.(\d+)\.mlp\.experts\.(\d+)\.(\w+)\.weight$/.exec(name) ?? [];
    if (expert !== undefined) {
      const all = `blk.${layer}.${EXPERTS.get(part)}.weight`;
      const experts = config.moe?.experts ?? 0;
      const together = tensors.get(all) ?? { type, shape: [experts, ...shape], bytes: new Uint8Array(experts * byteLength) };
      together.bytes.set(stored.bytes, Number(expert) * byteLength);
      tensors.set(all, together);
      continue;
    }
    const [, latentLayer] = /^model\.layers\.(\d+)\.self_attn\.kv_b_proj\./.exec(name) ?? [];
    if (latentSplit && latentLayer !== undefined) {
      const { keys, values } = splitLatent(stored, config);
      tensors.set(`blk.${latentLayer}.attn_k_b.weight`, keys).set(`blk.${latentLayer}.attn_v_b.weight`, values);
      continue;
    }
    const turns = permute && /self_attn\.[qk]_proj\./.test(name);
    tensors.set(ggufName(name), turns ? permuted(stored, config.headDim) : stored);
  }
  return memoryCheckpoint({ ...config, architecture }, tensors, { format: 'gguf' });
}
