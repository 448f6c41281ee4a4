/**
 * `fast` of files with latent attention and experts (DeepSeek-V2-Lite as GGUF, in both ways of writing kv_b), against `exact` of the same
 * file, which answers as llama.cpp does (tests/e2e/gguf-families.test.ts). Two layers, a dense one and one of experts: random weights that choose experts differ without
 * end once a rounding chooses another one.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadEngine } from '@causeway/worker-runtime';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FAMILIES, writeFamily } from './families.ts';

const LAYERS = 2;
const TOKENS = 48;
/** Another count than chunks have. */
const FEW = 17;
type Precision = 'exact' | 'fast';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'causeway-latent-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Logits of every position, [tokens][vocabulary], of ordinary tokens without order; of all of them and of the first few alone. */
async function logitsOf(modelPath: string, precision: Precision): Promise<{ all: Float32Array[]; few: Float32Array[] }> {
  await using loaded = await loadEngine({
    modelPath,
    chip: 'cpu',
    threads: 2,
    precision,
    kvBudgetBytes: 64 * 1024 ** 2,
    maxContext: 256,
    maxSequences: 1,
    chunkTokens: 32,
  });
  const { engine } = loaded;
  const { vocabSize } = engine.info;
  const rowsOf = async (tokens: number): Promise<Float32Array[]> => {
    const ids = Uint32Array.from({ length: tokens }, (_, i) => 20 + ((i * 7919) % 1500));
    const rows: Float32Array[] = [];
    await engine.logits(ids, (start, logits) => {
      for (let row = 0; row * vocabSize < logits.length; row++)
        rows[start + row] = logits.slice(row * vocabSize, (row + 1) * vocabSize);
    });
    expect(rows).toHaveLength(tokens);
    return rows;
  };
  return { all: await rowsOf(TOKENS), few: await rowsOf(FEW) };
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
  it('is near to exact at every position, and gives a row the same bits among few and among many', async () => {
    const path = join(folder, `${family.name}.gguf`);
    // Tables of rotations for the published context are what takes the longest to make.
    const short = { ...family, keys: { ...family.keys, context_length: { u32: 8192 } } };
    writeFamily(path, short, { layers: LAYERS, experts: 8, wholeVocabulary: false });
    const { all: exact } = await logitsOf(path, 'exact');
    const { all: fast, few } = await logitsOf(path, 'fast');
    expect(few).toEqual(fast.slice(0, FEW));
    const near = exact.map((row, i) => divergence(row, fast[i] ?? new Float32Array())).toSorted((a, b) => a - b);
    const apart = exact.slice(1).map((row, i) => divergence(row, exact[i] ?? new Float32Array()));
    // What rounded inputs cost, and what answers to different prompts are apart.
    expect(near[TOKENS / 2]).toBeLessThan(0.05);
    expect(near.at(-1)).toBeLessThan(0.5);
    expect(Math.min(...apart)).toBeGreaterThan(0.5);
  });
});
