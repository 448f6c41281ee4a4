/**
 * What each chip family's KV costs in quality: the next token's distribution after prompts of many lengths, against f32 KV: mean KL
 * divergence (nats) and how often the likeliest token is the same. Writes docs/reports/kv-quality-<model>.json.
 *
 * Usage: node tests/bench/kv-quality.ts [--model DIR] [--text FILE] [--positions N] [--step TOKENS]
 */
import { readFileSync } from 'node:fs';
import { basename, resolve } from 'node:path';
import { readConfig } from '@causeway/config';
import { storageName } from '@causeway/kv';
import { loadTokenizer, openCheckpoint } from '@causeway/model-files';
import { loadEngine, workerConfig } from '@causeway/worker-runtime';
import { flag, writeReport } from './bench-report.ts';
import { readOnly } from './real-kv.ts';

const model = resolve(flag('model', resolve(import.meta.dirname, '../../models/tiny-moe')));
const text = flag('text', `${model}/README.md`);
const positions = Number(flag('positions', '48'));
const step = Number(flag('step', '8'));

const emulated = (chip: string, more: Record<string, string> = {}) => ({
  CAUSEWAY_CHIP: chip,
  CAUSEWAY_CHIP_EMULATED: 'on',
  ...more,
});
const STORAGES: Record<string, string>[] = [
  { CAUSEWAY_CHIP: 'cpu' },
  emulated('nvidia', { CAUSEWAY_KV_LAYOUT: 'HND' }),
  emulated('ascend', { CAUSEWAY_KV_LAYOUT: 'NZ' }),
  emulated('nvidia', { CAUSEWAY_KV_DTYPE: 'f8e4m3', CAUSEWAY_KV_LAYOUT: 'HND' }),
  emulated('ascend', { CAUSEWAY_KV_DTYPE: 'int8', CAUSEWAY_KV_LAYOUT: 'NZ' }),
  emulated('cambricon', { CAUSEWAY_KV_DTYPE: 'int8' }),
];

async function promptIds(): Promise<number[]> {
  using checkpoint = await openCheckpoint(model);
  if (checkpoint.tokenizerSource === undefined) throw new Error(`${model} has no tokenizer`);
  return loadTokenizer(checkpoint.tokenizerSource).encode(readFileSync(text, 'utf8'));
}

/** Log-probabilities of the next token after each of the prompts. */
async function distributions(
  env: Record<string, string>,
  prompts: readonly number[][],
): Promise<{ name: string; rows: Float64Array[] }> {
  const settings = {
    CAUSEWAY_WORKER_ID: 'quality',
    CAUSEWAY_MODEL_PATH: model,
    CAUSEWAY_PRECISION: 'exact',
    CAUSEWAY_KV_BUDGET_BYTES: '1GiB',
  };
  await using loaded = await loadEngine(
    readConfig(workerConfig, { argv: [], env: { ...settings, CAUSEWAY_MAX_CONTEXT: '1024', ...env } }),
  );
  const rows: Float64Array[] = [];
  const { signal } = new AbortController();
  for (const ids of prompts) {
    using pages = await loaded.engine.reserve(ids.length, signal);
    const { first } = await loaded.engine.prefill({ ...readOnly(ids), returnLogits: true }, pages, signal);
    if (first?.logits === undefined) throw new Error('no logits came');
    rows.push(logSoftmax(first.logits));
  }
  return { name: storageName(loaded.info.descriptor.storage), rows };
}

function logSoftmax(logits: Float32Array): Float64Array {
  const largest = logits.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const sum = logits.reduce((total, value) => total + Math.exp(value - largest), 0);
  return Float64Array.from(logits, (value) => value - largest - Math.log(sum));
}

const likeliest = (row: Float64Array): number => row.indexOf(row.reduce((a, b) => Math.max(a, b)));

const ids = await promptIds();
const prompts = Array.from({ length: positions }, (_, i) => ids.slice(0, (i + 2) * step));
if (ids.length < (positions + 1) * step) throw new Error(`${text} has ${ids.length} tokens, not ${(positions + 1) * step}`);
const summary: Record<string, { kl: number; top1: number }> = {};
let reference: Float64Array[] = [];
for (const env of STORAGES) {
  const { name, rows } = await distributions(env, prompts);
  if (reference.length === 0) reference = rows;
  const divergences = rows.map((row, i) =>
    (reference[i] as Float64Array).reduce((sum, p, token) => sum + Math.exp(p) * (p - (row[token] as number)), 0),
  );
  const same = rows.filter((row, i) => likeliest(row) === likeliest(reference[i] as Float64Array)).length;
  const result = { kl: divergences.reduce((a, b) => a + b, 0) / positions, top1: same / positions };
  summary[`${env.CAUSEWAY_CHIP} ${name}`] = result;
  console.log(`${env.CAUSEWAY_CHIP} ${name}: KL ${result.kl.toExponential(2)}, same likeliest token ${result.top1.toFixed(3)}`);
}
const name = basename(model);
writeReport(`kv-quality-${name}`, {
  command: `node tests/bench/kv-quality.ts --model ${flag('model', 'models/tiny-moe')} --text ${flag('text', 'models/tiny-moe/README.md')} --positions ${positions} --step ${step}`,
  peers: {},
  setting: { model: name, positions, step, reference: 'f32 KV' },
  repeats: [{ summary }],
  summary,
});
