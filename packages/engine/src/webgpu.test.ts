/** Engines on ONNX Runtime's WebGPU provider, with slots in the device's memory: a GPU's, or SwiftShader's on the CPU. */
import type { LayerGeometry } from '@causeway/kv';
import { diagnostics, loadVulkan, Runtime } from '@causeway/ort';
import { testVulkan, withoutVulkan } from '@causeway/testkit';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { EngineDevice } from './engine-device.ts';
import { LoopTime } from './loop-time.ts';
import { Slots } from './slots.ts';
import {
  absent,
  generate,
  generation,
  goldenCases,
  type ModelName,
  type TestOptions,
  startEngine,
} from './testing/start-engine.ts';

// The device compiles a kernel for every operator and shape when it meets it first.
vi.setConfig({ testTimeout: 240_000 });

const provider = 'WebGpuExecutionProvider';
const MODELS: ModelName[] = ['llama', 'tiny-moe'];
const FULL_MODELS: ModelName[] = process.env['CAUSEWAY_TEST_FULL'] === '1' ? ['deepseek_v3'] : [];

let runtime: Runtime;
beforeAll(() => {
  if (!withoutVulkan) loadVulkan({ folder: testVulkan() });
  runtime = Runtime.create({ threads: 2 });
});
afterAll(() => runtime[Symbol.asyncDispose]());

/** An engine on the device and one on the CPU, over pages of the same kind. */
async function both(name: ModelName, options: TestOptions = {}) {
  await using stack = new AsyncDisposableStack();
  const small = { runtime, maxContext: 256, pageCount: 64, ...options };
  const device = stack.use(await startEngine(name, { ...small, provider }));
  const cpu = stack.use(await startEngine(name, small));
  const owned = stack.move();
  return { device, cpu, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

describe.skipIf(withoutVulkan)('webgpu (needs Vulkan)', () => {
  for (const name of [...MODELS, ...FULL_MODELS]) {
    describe.skipIf(absent(name))(name, () => {
      it('answers the goldens, alone and in a ragged batch; slots in its memory equal their pages after every step', async () => {
        await using t = await both(name);
        const cases = goldenCases(name).slice(0, 4);
        const wanted = cases.map(({ prompt, greedy }) => generation(prompt, { maxTokens: Math.min(6, greedy.length) }));
        const alone = await Promise.all(wanted.map((g) => generate(t.cpu.engine, g)));
        for (const g of [wanted.slice(0, 1), wanted]) {
          const answers = await Promise.all(g.map((one) => generate(t.device.engine, one)));
          for (const [i, answer] of answers.entries()) {
            expect(answer.map(({ id }) => id)).toEqual(cases[i]?.greedy.slice(0, 6));
            const distance = answer.map(({ logprob }, j) => Math.abs(logprob - (alone[i]?.[j]?.logprob ?? Number.NaN)));
            expect(Math.max(...distance)).toBeLessThan(1e-3);
          }
        }
        expect(t.device.errors).toEqual([]);
      });
    });
  }

  it('stores bf16 pages, group by group of layers, whose numbers are all that attention reads', async () => {
    await using t = await both('tiny-moe', { dtype: 'bf16', rounds: true, layerGroups: 2 });
    const { prompt } = goldenCases('tiny-moe')[0] ?? { prompt: [] };
    const g = generation(prompt, { maxTokens: 6 });
    const [there, here] = [await generate(t.device.engine, g), await generate(t.cpu.engine, g)];
    expect(there.map(({ id }) => id)).toEqual(here.map(({ id }) => id));
    expect(t.device.errors).toEqual([]);
  });

  it('says that the device has no room, and leaves nothing behind', async () => {
    const before = diagnostics();
    {
      await using device = await EngineDevice.open(runtime, provider);
      const huge: LayerGeometry[] = [{ kind: 'full', kvHeads: 1024, headDimK: 1024, headDimV: 1024 }];
      const make = async (): Promise<void> => {
        using slots = new Slots(
          { descriptor: { layers: huge }, maxSequences: 4, capacity: 65_536, device: device.memory },
          new LoopTime(),
        );
        await device.touch(slots);
      };
      await expect(make()).rejects.toMatchObject({ code: 'resource_exhausted' });
      const some: LayerGeometry[] = [{ kind: 'full', kvHeads: 1, headDimK: 64, headDimV: 64 }];
      using slots = new Slots(
        { descriptor: { layers: some }, maxSequences: 4, capacity: 64, device: device.memory },
        new LoopTime(),
      );
      await device.touch(slots);
      expect(diagnostics().deviceBytes).toBe(slots.byteLength);
    }
    expect(diagnostics()).toEqual(before);
  });
});
