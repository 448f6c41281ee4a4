/**
 * Where the time of a decode step and of a prefill chunk goes: ONNX Runtime's own profile of the engine's runs, operator by operator,
 * on one thread so that waiting for others is no part of it. An operator's time is its median over the runs.
 *   ./causeway bench operators [--model ../shared/models/smollm2-135m-instruct] [--precision fast] [--context 512] [--steps 40] [--name operators]
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import type { Generation } from '@causeway/engine';
import { loadEngine } from '@causeway/worker-runtime';
import { promptOf } from './arms/arm.ts';
import { flag, spread, writeReport } from './bench-report.ts';

const model = flag('model', join(import.meta.dirname, '../../../shared/models/smollm2-135m-instruct'));
const precision = flag('precision', 'fast') === 'exact' ? 'exact' : 'fast';
const context = Number(flag('context', '512'));
const steps = Number(flag('steps', '40'));
const chunkTokens = Number(flag('chunk', '256'));
const repeats = Number(flag('repeats', '6'));

/** An entry of a profile: microseconds. */
interface Event {
  cat: string;
  name: string;
  ts: number;
  dur: number;
  args?: { op_name?: string; node_index?: string; output_type_shape?: Record<string, number[]>[] };
}

async function record(folder: string): Promise<{ profiles: Event[][]; vocabSize: number }> {
  await using loaded = await loadEngine({
    modelPath: model,
    chip: 'cpu',
    threads: 1,
    precision,
    kvBudgetBytes: 1024 ** 3,
    maxContext: context + steps + 16,
    maxSequences: 1,
    chunkTokens,
    debug: { profile: join(folder, 'profile') },
  });
  const { engine, info } = loaded;
  const { signal } = new AbortController();
  for (let repeat = 0; repeat < repeats; repeat++) {
    const generation: Generation = {
      promptIds: Uint32Array.from(promptOf(context, repeat, info.vocabSize)),
      replayIds: new Uint32Array(0),
      maxTokens: steps,
      stopTokenIds: [],
      ignoreEos: true,
      sampling: { temperature: 0, topP: 1, topK: 0, seed: 0n },
      firstPosition: 0,
    };
    const pages = await engine.reserve(context + steps, signal);
    const { first } = await engine.prefill(generation, pages, signal);
    for await (const _token of engine.decode(generation, pages, first, signal));
  }
  await loaded[Symbol.asyncDispose]();
  const profiles = readdirSync(folder).map((file) => JSON.parse(readFileSync(join(folder, file), 'utf8')) as Event[]);
  return { profiles, vocabSize: info.vocabSize };
}

type Phase = 'decode step' | 'last prefill chunk';

/** Rows that attention answered in a run: 1 in a decode step. */
function tokensOf(nodes: readonly Event[]): number {
  const attention = nodes.find(({ args }) => args?.op_name === 'GroupQueryAttention');
  const [shape = []] = Object.values(attention?.args?.output_type_shape?.[0] ?? {});
  return shape[1] ?? 0;
}

/** Runs of a segment by phase: each is the operators that it ran. Prompts have chunks before the last, which are left out. */
function runsOf(events: readonly Event[]): Map<Phase, Event[][]> {
  const nodes = events.filter(({ cat, name }) => cat === 'Node' && name.endsWith('_kernel_time')).sort((a, b) => a.ts - b.ts);
  const runs: Event[][] = events
    .filter(({ name }) => name === 'model_run')
    .map(({ ts, dur }) => nodes.filter((node) => node.ts >= ts && node.ts < ts + dur));
  const phases = new Map<Phase, Event[][]>([
    ['decode step', []],
    ['last prefill chunk', []],
  ]);
  runs.forEach((run, i) => {
    const tokens = tokensOf(run);
    if (tokens === 1) phases.get('decode step')?.push(run);
    else if (tokensOf(runs[i + 1] ?? []) === 1) phases.get('last prefill chunk')?.push(run);
  });
  return phases;
}

/** MatMulNBits of the vocabulary is told apart by its outputs. */
function kindOf({ args }: Event, vocabulary: number): string {
  const [shape = []] = Object.values(args?.output_type_shape?.[0] ?? {});
  const name = args?.op_name ?? 'unknown';
  return shape.at(-1) === vocabulary ? `${name} (vocabulary)` : name;
}

const folder = mkdtempSync(join(tmpdir(), 'causeway-operators-'));
try {
  const { profiles, vocabSize } = await record(folder);
  const rows = new Map<Phase, Map<string, { nodes: number; ms: number }>>();
  const repeatsSeen: object[] = [];
  for (const [segment, events] of profiles.entries()) {
    for (const [phase, runs] of runsOf(events)) {
      const nodes = Map.groupBy(runs.flat(), ({ name }) => name);
      const kinds = rows.get(phase) ?? new Map<string, { nodes: number; ms: number }>();
      rows.set(phase, kinds);
      for (const [name, times] of nodes) {
        const kind = kindOf(times[0] as Event, vocabSize);
        const { median, min, max } = spread(times.map(({ dur }) => dur));
        const sum = kinds.get(kind) ?? { nodes: 0, ms: 0 };
        kinds.set(kind, { nodes: sum.nodes + 1, ms: sum.ms + median / 1000 });
        repeatsSeen.push({ phase, segment, name, kind, runs: times.length, medianUs: median, minUs: min, maxUs: max });
      }
    }
  }
  const summary = [...rows].map(([phase, kinds]) => {
    const operators = [...kinds]
      .map(([kind, { nodes, ms }]) => ({ kind, nodes, ms: Number(ms.toFixed(3)) }))
      .sort((a, b) => b.ms - a.ms);
    return { phase, ms: Number(operators.reduce((sum, { ms }) => sum + ms, 0).toFixed(3)), operators };
  });
  for (const { phase, ms, operators } of summary) {
    console.log(`${phase}: ${ms.toFixed(2)} ms`);
    for (const { kind, nodes, ms: own } of operators)
      console.log(`  ${own.toFixed(3).padStart(9)} ms  ${String(nodes).padStart(4)} x ${kind}`);
  }
  writeReport(flag('name', 'operators'), {
    command: `./causeway bench operators ${process.argv.slice(2).join(' ')}`.trim(),
    peers: {},
    setting: { model: basename(model), precision, threads: 1, context, steps, chunkTokens, repeats },
    repeats: repeatsSeen,
    summary,
  });
} finally {
  rmSync(folder, { recursive: true });
}
