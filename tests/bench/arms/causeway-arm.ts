/** Causeway's engine, as a worker runs it. */
import type { Generation } from '@causeway/engine';
import { loadEngine } from '@causeway/worker-runtime';
import { type Arm, type ArmSpec, cpuMs, type Measured, type MeasuredBatch, medianInterval } from './arm.ts';

function greedy(promptIds: readonly number[], steps: number): Generation {
  return {
    promptIds: Uint32Array.from(promptIds),
    replayIds: new Uint32Array(0),
    maxTokens: steps,
    stopTokenIds: [],
    ignoreEos: true,
    sampling: { temperature: 0, topP: 1, topK: 0, seed: 0n },
    firstPosition: 0,
  };
}

export async function causewayArm({ modelPath, threads, maxContext, commit, causeway }: ArmSpec): Promise<Arm> {
  if (causeway === undefined) throw new Error('a causeway arm needs its options');
  let steps: { batch: number; at: number; cpu: NodeJS.CpuUsage }[] = [];
  const loaded = await loadEngine({
    modelPath,
    chip: 'cpu',
    vulkanDir: process.env['CAUSEWAY_VULKAN_DIR'],
    threads,
    ...causeway,
    kvBudgetBytes: 4 * 1024 ** 3,
    maxContext,
    maxSequences: 8,
    hooks: () => ({ onStep: ({ batch }) => void steps.push({ batch, at: performance.now(), cpu: process.cpuUsage() }) }),
  });
  const { engine } = loaded;
  const { signal } = new AbortController();

  const run = async (promptIds: readonly number[], tokens: number): Promise<Measured> => {
    const generation = greedy(promptIds, tokens);
    const pages = await engine.reserve(promptIds.length + tokens, signal);
    const prefillCpu = process.cpuUsage();
    const start = performance.now();
    const { first } = await engine.prefill(generation, pages, signal);
    const moments = [performance.now()];
    const prefillCpuMs = cpuMs(prefillCpu);
    const decodeCpu = process.cpuUsage();
    for await (const _token of engine.decode(generation, pages, first, signal)) moments.push(performance.now());
    const stepCpuMs = cpuMs(decodeCpu) / (moments.length - 1);
    return { prefillMs: (moments[0] as number) - start, prefillCpuMs, stepMs: medianInterval(moments), stepCpuMs };
  };

  const together = async (prompts: readonly (readonly number[])[], tokens: number): Promise<MeasuredBatch> => {
    const ready = [];
    for (const prompt of prompts) {
      const generation = greedy(prompt, tokens);
      const pages = await engine.reserve(prompt.length + tokens, signal);
      ready.push({ generation, pages, first: (await engine.prefill(generation, pages, signal)).first });
    }
    steps = [];
    await Promise.all(
      ready.map(async ({ generation, pages, first }) => {
        for await (const _token of engine.decode(generation, pages, first, signal));
      }),
    );
    // Steps before all have joined, or after the first has left, serve fewer.
    const full = steps.filter(({ batch }) => batch === prompts.length);
    const [first, last] = [full[0], full.at(-1)];
    if (first === undefined || last === undefined) throw new Error(`no step served all ${prompts.length} sequences`);
    const cpu = last.cpu.user + last.cpu.system - first.cpu.user - first.cpu.system;
    return { stepMs: medianInterval(full.map(({ at }) => at)), stepCpuMs: cpu / 1000 / (full.length - 1) };
  };

  const { chip = 'cpu', precision, spinUs, chunkTokens } = causeway;
  return {
    version: `commit ${commit}, chip ${chip}, precision ${precision}, chunks of ${chunkTokens}, threads that ${spinUs > 0 ? `spin for ${spinUs} µs` : 'sleep'} when they wait`,
    run,
    together,
    [Symbol.asyncDispose]: () => loaded[Symbol.asyncDispose](),
  };
}
