import { type Arm, type ArmSpec, cpuMs, type Measured, medianInterval } from './arm.ts';
import { loadLlama } from './llama-cpp.ts';

/** llama.cpp as an arm: the same prompt ids, greedy. */
export async function llamaCppArm({ modelPath, threads, maxContext, flashAttention = false }: ArmSpec): Promise<Arm> {
  const loaded = await loadLlama({ modelPath, threads, contextSize: maxContext, flashAttention });
  const { sequence } = loaded;
  const run = async (promptIds: readonly number[], steps: number): Promise<Measured> => {
    await sequence.clearHistory();
    const prefillCpu = process.cpuUsage();
    const start = performance.now();
    await sequence.evaluateWithoutGeneratingNewTokens(promptIds);
    const moments = [performance.now()];
    const prefillCpuMs = cpuMs(prefillCpu);
    const decodeCpu = process.cpuUsage();
    for await (const _token of sequence.evaluate([promptIds[0] as number], { temperature: 0, yieldEogToken: true })) {
      if (moments.push(performance.now()) > steps) break;
    }
    const stepCpuMs = cpuMs(decodeCpu) / (moments.length - 1);
    return { prefillMs: (moments[0] as number) - start, prefillCpuMs, stepMs: medianInterval(moments), stepCpuMs };
  };
  return { version: loaded.version, run, [Symbol.asyncDispose]: () => loaded[Symbol.asyncDispose]() };
}
