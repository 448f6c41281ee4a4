/**
 * How far answers are from the float32 reference, ours in `fast` and `exact` beside llama.cpp's on the same GGUF file: at every position
 * of the reference's own answers, fed to each engine token by token of the reference.
 *   ./causeway bench quality [--model ../shared/models/smollm2-135m-instruct] [--threads 2] [--name quality]
 *
 * The reference (golden.json) holds the five likeliest tokens of each position. The Kullback-Leibler divergence is taken over these
 * five and all others as a sixth outcome, which gives at most what it is over the whole vocabulary: sum of p ln(p / q), in nats.
 */
import { readFileSync, readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { loadEngine } from '@causeway/worker-runtime';
import { loadLlama } from './arms/llama-cpp.ts';
import { commitHere, flag, spread, type Spread, writeReport } from './bench-report.ts';

const model = resolve(flag('model', join(import.meta.dirname, '../../../shared/models/smollm2-135m-instruct')));
const threads = Number(flag('threads', String(availableParallelism())));
const file = readdirSync(model).find((name) => name.endsWith('.gguf'));
if (file === undefined) throw new Error(`${model} has no .gguf file`);
const modelPath = join(model, file);

interface GoldenCase {
  prompt_ids: number[];
  greedy_ids: number[];
  /** Differences of the reference's two best logits. */
  margins: number[];
  /** [token, natural log of its probability], likeliest first. */
  top5: [number, number][][];
}
const { source, cases } = JSON.parse(readFileSync(join(model, 'golden.json'), 'utf8')) as { source: string; cases: GoldenCase[] };

/** What one engine says at one position of one case. */
interface Position {
  case: number;
  position: number;
  best: number;
  /** Natural logs of the probabilities of the reference's five tokens. */
  top5: number[];
}

/** Log-probabilities of the wanted tokens and the likeliest token, from logits by token. */
function read(logits: ArrayLike<number>, wanted: readonly number[]): { best: number; top5: number[] } {
  let best = 0;
  for (let id = 1; id < logits.length; id++) if ((logits[id] as number) > (logits[best] as number)) best = id;
  const most = logits[best] as number;
  let sum = 0;
  for (let id = 0; id < logits.length; id++) sum += Math.exp((logits[id] as number) - most);
  return { best, top5: wanted.map((id) => (logits[id] as number) - most - Math.log(sum)) };
}

/** Calls `onLogits` for every position of the answer of a case. */
type Engine = (golden: GoldenCase, onLogits: (position: number, logits: ArrayLike<number>) => void) => Promise<void>;

async function positionsOf(engine: Engine): Promise<Position[]> {
  const found: Position[] = [];
  for (const [i, golden] of cases.entries()) {
    await engine(golden, (position, logits) => {
      const wanted = (golden.top5[position] ?? []).map(([id]) => id);
      found.push({ case: i, position, ...read(logits, wanted) });
    });
  }
  return found;
}

async function causeway(precision: 'fast' | 'exact'): Promise<Position[]> {
  await using loaded = await loadEngine({
    modelPath,
    chip: 'cpu',
    threads,
    precision,
    kvBudgetBytes: 1024 ** 3,
    maxContext: 1024,
    maxSequences: 1,
    chunkTokens: 256,
  });
  const { engine } = loaded;
  const { vocabSize } = engine.info;
  return await positionsOf(async ({ prompt_ids: prompt, greedy_ids: greedy }, onLogits) => {
    const ids = Uint32Array.from([...prompt, ...greedy.slice(0, -1)]);
    await engine.logits(ids, (start, logits) => {
      for (let row = 0; row * vocabSize < logits.length; row++) {
        const position = start + row + 1 - prompt.length;
        if (position >= 0) onLogits(position, logits.subarray(row * vocabSize, (row + 1) * vocabSize));
      }
    });
  });
}

async function llamaCpp(flashAttention: boolean): Promise<{ version: string; positions: Position[] }> {
  await using loaded = await loadLlama({ modelPath, threads, contextSize: 1024, flashAttention });
  const { sequence, version } = loaded;
  const wanted = { generateNext: { logits: true, options: { temperature: 0 } } };
  const positions = await positionsOf(async ({ prompt_ids: prompt, greedy_ids: greedy }, onLogits) => {
    await sequence.clearHistory();
    const answer = [prompt.at(-1) as number, ...greedy.slice(0, -1)];
    const given = [...prompt.slice(0, -1), ...answer.map((id): [number, object] => [id, wanted])];
    const outputs = await sequence.controlledEvaluate(given);
    for (const [i, output] of outputs.entries()) {
      const logits = output?.next.logits;
      if (logits === undefined) continue;
      const row = new Float64Array(logits.size);
      for (const [id, value] of logits) row[id] = value;
      onLogits(i + 1 - prompt.length, row);
    }
  });
  return { version, positions };
}

interface Distance {
  positions: number;
  /** Positions where the likeliest token is the reference's, and the same of those where the reference's margin is above 0.1. */
  agreed: number;
  firm: number;
  firmAgreed: number;
  /** Nats. */
  divergence: Spread & { mean: number };
}

/** In nats, at one position. */
function divergenceAt(item: Position): number {
  const p = (cases[item.case]?.top5[item.position] ?? []).map(([, logprob]) => Math.exp(logprob));
  const q = item.top5.map(Math.exp);
  const others = (values: number[]): number => Math.max(1e-12, 1 - values.reduce((sum, value) => sum + value, 0));
  return [...p, others(p)].reduce((sum, value, i) => sum + value * Math.log(value / ([...q, others(q)][i] as number)), 0);
}

/** Mean of the differences in divergence at each position, and its standard error. */
function compare(found: readonly Position[], other: readonly Position[]): { difference: number; error: number } {
  const differences = found.map((item, i) => divergenceAt(item) - divergenceAt(other[i] as Position));
  const difference = differences.reduce((sum, value) => sum + value, 0) / differences.length;
  const variance = differences.reduce((sum, value) => sum + (value - difference) ** 2, 0) / (differences.length - 1);
  return { difference, error: Math.sqrt(variance / differences.length) };
}

function distance(found: readonly Position[]): Distance {
  const at = ({ case: i, position }: Position): [GoldenCase, number] => [cases[i] as GoldenCase, position];
  const agrees = (item: Position): boolean => {
    const [golden, position] = at(item);
    return golden.greedy_ids[position] === item.best;
  };
  const firm = found.filter((item) => {
    const [golden, position] = at(item);
    return (golden.margins[position] ?? 0) > 0.1;
  });
  const divergences = found.map(divergenceAt);
  return {
    positions: found.length,
    agreed: found.filter(agrees).length,
    firm: firm.length,
    firmAgreed: firm.filter(agrees).length,
    divergence: { ...spread(divergences), mean: divergences.reduce((sum, value) => sum + value, 0) / divergences.length },
  };
}

const commit = commitHere();
const fast = await causeway('fast');
const exact = await causeway('exact');
const plain = await llamaCpp(false);
const flash = await llamaCpp(true);
const arms: Record<string, Position[]> = {
  'causeway fast': fast,
  'causeway exact': exact,
  'llama.cpp': plain.positions,
  'llama.cpp, flash attention': flash.positions,
};
const expected = cases.reduce((sum, { greedy_ids: greedy }) => sum + greedy.length, 0);
for (const [name, found] of Object.entries(arms)) {
  if (found.length !== expected) throw new Error(`${name} answered ${found.length} positions of ${expected}`);
}
const summary = Object.entries(arms).map(([arm, found]) => ({
  arm,
  ...distance(found),
  ...(found === plain.positions ? {} : { against: compare(found, plain.positions) }),
}));
for (const { arm, positions, agreed, firm, firmAgreed, divergence } of summary) {
  console.log(
    `${arm}: top-1 ${agreed}/${positions}, with a margin above 0.1 ${firmAgreed}/${firm}; KL mean ${divergence.mean.toExponential(2)}, ` +
      `median ${divergence.median.toExponential(2)}, largest ${divergence.max.toExponential(2)}`,
  );
}
writeReport(flag('name', 'quality'), {
  command: `./causeway bench quality ${process.argv.slice(2).join(' ')}`.trim(),
  peers: {
    reference: source,
    causeway: `commit ${commit}`,
    'llama.cpp': plain.version,
    'llama.cpp, flash attention': flash.version,
  },
  setting: { model: basename(modelPath), threads, cases: cases.length },
  repeats: Object.entries(arms).flatMap(([arm, found]) =>
    found.map(({ top5, ...item }) => ({ arm, ...item, top5: top5.map((value) => Number(value.toFixed(5))) })),
  ),
  summary,
});
