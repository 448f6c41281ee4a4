/**
 * `fast` of files with latent attention and experts (DeepSeek-V2-Lite as GGUF, in both ways of writing kv_b), against `exact` of the same
 * file, which answers as llama.cpp does (tests/e2e/gguf-families.test.ts). Three layers: random weights that choose experts differ without
 * end once a rounding chooses another one.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadEngine } from '@causeway/worker-runtime';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FAMILIES, writeFamily } from './families.ts';

const LAYERS = 3;
const TOKENS = 48;

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'causeway-latent-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

interface Run {
  precision: 'exact' | 'fast';
  chunkTokens: number;
}

/** Logits of every position of a prompt, [tokens][vocabulary]. */
async function logitsOf(modelPath: string, { precision, chunkTokens }: Run): Promise<Float32Array[]> {
  await using loaded = await loadEngine({
    modelPath,
    chip: 'cpu',
    threads: 2,
    precision,
    kvBudgetBytes: 64 * 1024 ** 2,
    maxContext: 256,
    maxSequences: 1,
    chunkTokens,
  });
  const { engine } = loaded;
  const { vocabSize } = engine.info;
  // Ordinary tokens, without order.
  const ids = Uint32Array.from({ length: TOKENS }, (_, i) => 20 + ((i * 7919) % 1500));
  const rows: Float32Array[] = [];
  await engine.logits(ids, (start, logits) => {
    for (let row = 0; row * vocabSize < logits.length; row++)
      rows[start + row] = logits.slice(row * vocabSize, (row + 1) * vocabSize);
  });
  expect(rows).toHaveLength(TOKENS);
  return rows;
}

function probabilities(logits: Float32Array): Float64Array {
  const most = logits.reduce((a, b) => Math.max(a, b));
  const powers = Float64Array.from(logits, (value) => Math.exp(value - most));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((value) => value / sum);
}

/** Nats, over the whole vocabulary. */
function divergence(wanted: Float32Array, found: Float32Array): number {
  const [p, q] = [probabilities(wanted), probabilities(found)];
  return p.reduce((sum, value, i) => sum + value * Math.log(value / (q[i] ?? Number.NaN)), 0);
}

describe.each(FAMILIES.filter(({ sizes }) => sizes.latent !== undefined))('$name, fast', (family) => {
  it('is near to exact at every position, and gives the same bits however the prompt is cut', async () => {
    const path = join(folder, `${family.name}.gguf`);
    writeFamily(path, family, { layers: LAYERS, experts: 8, wholeVocabulary: false });
    const exact = await logitsOf(path, { precision: 'exact', chunkTokens: 64 });
    const fast = await logitsOf(path, { precision: 'fast', chunkTokens: 64 });
    const near = exact.map((row, i) => divergence(row, fast[i] ?? new Float32Array())).toSorted((a, b) => a - b);
    const apart = exact.slice(1).map((row, i) => divergence(row, exact[i] ?? new Float32Array()));
    // What rounded inputs cost, and what answers to different prompts are apart.
    expect(near[TOKENS / 2]).toBeLessThan(0.05);
    expect(near.at(-1)).toBeLessThan(0.5);
    expect(Math.min(...apart)).toBeGreaterThan(0.5);
    expect(await logitsOf(path, { precision: 'fast', chunkTokens: 17 })).toEqual(fast);
  });
});
