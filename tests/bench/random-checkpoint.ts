/**
 * Writes a checkpoint with random weights and, as safetensors, the built-in model's tokenizer: something large to load or to serve.
 *   node tests/bench/random-checkpoint.ts --out DIR [--type BF16|Q4_0|Q4_1|Q8_0|Q4_K] [--hidden 2048] [--layers 16] [--tied no]
 *     [--experts N --experts-per-token 8 --expert-inner 512]
 * The architecture is llama, with experts qwen3_moe. BF16 is written as safetensors, the others as GGUF.
 */
import { join, resolve } from 'node:path';
import { RANDOM_MODEL_TYPES, writeRandomModel } from '@causeway/testkit';
import { flag } from './bench-report.ts';

const out = flag('out', '');
if (out === '') throw new Error('--out names the folder to write');
const type = RANDOM_MODEL_TYPES.find((known) => known === flag('type', 'BF16'));
if (type === undefined) throw new Error(`--type is one of ${RANDOM_MODEL_TYPES.join(', ')}`);
const hidden = Number(flag('hidden', '2048'));
const experts = Number(flag('experts', '0'));
const moe = {
  experts,
  expertsPerToken: Number(flag('experts-per-token', '8')),
  inner: Number(flag('expert-inner', '512')),
};
const weights = writeRandomModel({
  out: resolve(out),
  type,
  hidden,
  layers: Number(flag('layers', '16')),
  inner: hidden * 4,
  heads: hidden / 64,
  kvHeads: Math.max(1, hidden / 256),
  headDim: 64,
  vocab: 32_768,
  context: 4096,
  tied: flag('tied', 'no') === 'yes',
  ...(experts > 0 ? { moe } : {}),
  tokenizerFrom: join(import.meta.dirname, '../../models/tiny-moe'),
});
console.log(`wrote ${(weights / 1e6).toFixed(0)} million weights as ${type} to ${out}`);
