/**
 * Writes references.json: what llama.cpp makes of the files of families.ts, by node-llama-cpp (installed on demand). Its tokens of some
 * texts; greedy answers on the file as it is; and on the same numbers as float32 with KV of float32, with the likeliest tokens of each
 * step. widen.py makes the float32 file, by the Python package `gguf`.
 *   node tests/gguf/make-references.ts [--full yes] [--only PART_OF_NAME] [--folder DIR] [--python python3]
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type LlamaSequence, loadLlama } from '../bench/arms/llama-cpp.ts';
import { flag } from '../bench/bench-report.ts';
import { type Extent, FAMILIES, type Family, fullExtent, smallExtent, writeFamily } from './families.ts';
import { CONTENT, TEXTS } from './prompts.ts';
import { type FamilyReference, REFERENCES, sha256Of, type Step } from './references.ts';

const STEPS = 16;
const full = flag('full', 'no') === 'yes';
const folder = flag('folder', '') || mkdtempSync(join(tmpdir(), 'causeway-gguf-'));

/** Greedy tokens after a prompt, with the five likeliest of each step. */
async function greedy(sequence: LlamaSequence, prompt: readonly number[]): Promise<Step[]> {
  await sequence.clearHistory();
  const wanted = { generateNext: { logits: true, options: { temperature: 0 } } };
  const steps: Step[] = [];
  let input = [...prompt];
  while (steps.length < STEPS) {
    const last = input.at(-1) as number;
    const outputs = await sequence.controlledEvaluate([...input.slice(0, -1), [last, wanted]]);
    const logits = [...(outputs.at(-1)?.next.logits ?? [])].toSorted(([, a], [, b]) => b - a);
    const largest = logits[0]?.[1] ?? 0;
    const total = logits.reduce((sum, [, value]) => sum + Math.exp(value - largest), 0);
    const top = logits
      .slice(0, 5)
      .map(([id, value]): [number, number] => [id, Number((value - largest - Math.log(total)).toFixed(5))]);
    const id = top[0]?.[0] as number;
    steps.push({ id, top });
    input = [id];
  }
  return steps;
}

async function referenceOf(family: Family, extent: Extent): Promise<FamilyReference> {
  const file = join(folder, `${family.name}.gguf`);
  const widened = join(folder, `${family.name}-f32.gguf`);
  writeFamily(file, family, extent);
  execFileSync(flag('python', 'python3'), [join(import.meta.dirname, 'widen.py'), file, widened], { stdio: 'inherit' });
  const options = { threads: 2, contextSize: 1024, flashAttention: false };
  const result: FamilyReference = { sha256: await sha256Of(file), texts: [], chat: [], exact: [], stored: [] };
  {
    await using loaded = await loadLlama({ ...options, modelPath: file });
    result.texts = TEXTS.map((text) => loaded.tokenize(text, false));
    result.chat = loaded.tokenize(family.rendered(CONTENT), true);
    result.stored = await greedy(loaded.sequence, result.chat);
  }
  {
    await using loaded = await loadLlama({ ...options, modelPath: widened, floatCache: true });
    result.exact = await greedy(loaded.sequence, result.chat);
  }
  rmSync(widened);
  rmSync(file);
  return result;
}

const all = JSON.parse(readFileSync(REFERENCES, 'utf8')) as Record<string, FamilyReference>;
for (const family of FAMILIES.filter(({ name }) => name.includes(flag('only', '')))) {
  const key = `${family.name}${full ? ', full' : ''}`;
  all[key] = await referenceOf(family, full ? fullExtent(family) : smallExtent(family));
  console.log(key, all[key].chat.length, all[key].exact.map(({ id }) => id).join(' '));
  writeFileSync(REFERENCES, `${JSON.stringify(all).replaceAll('},"', '},\n"').replaceAll('],"', '],\n"')}\n`);
}
