/** Engines on ONNX Runtime's WebGPU provider, with slots in the device's memory: a GPU's, or SwiftShader's on the CPU. */
import { type KvDescriptor, type LayerGeometry, PagePool } from '@causeway/kv';
import { GraphBuilder } from '@causeway/onnx-graph';
import { DeviceMemory, diagnostics, loadVulkan, Runtime, Tensor } from '@causeway/ort';
import { testVulkan, withoutVulkan } from '@causeway/testkit';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { DevicePacker } from './device-packing.ts';
import { EngineDevice } from './engine-device.ts';
import { LoopTime } from './loop-time.ts';
import { PageStage } from './page-stage.ts';
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
const FULL = process.env['CAUSEWAY_TEST_FULL'] === '1';
// Compiling a model's kernels takes five to ten seconds of a core.
const MODELS: { name: ModelName; full: boolean }[] = [
  { name: 'llama', full: false },
  { name: 'tiny-moe', full: true },
  { name: 'deepseek_v3', full: true },
];

let runtime: Runtime;
beforeAll(() => {
  if (!withoutVulkan) loadVulkan({ folder: testVulkan() });
  runtime = Runtime.create({ threads: 2 });
});
afterAll(() => runtime[Symbol.asyncDispose]());

/** A graph that copies one number. */
function copyGraph(): Uint8Array {
  const graph = new GraphBuilder('copy');
  graph.node('Identity', [graph.input('a', 'f32', [1])], { outputs: ['b'] });
  graph.output('b', 'f32', [1]);
  return graph.serialize();
}

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
  for (const { name, full } of MODELS) {
    describe.skipIf(absent(name) || (full && !FULL))(name, () => {
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

  it('moves blocks of more layers than a kernel has buffers, in both regions, bit for bit', async () => {
    await using stack = new AsyncDisposableStack();
    const layers = Array.from({ length: 8 }, (): LayerGeometry => ({ kind: 'full', kvHeads: 2, headDimK: 8, headDimV: 8 }));
    const storage = { dtype: 'f32', layout: 'NHD', blockTokens: 4, shards: { count: 1, index: 0 } } as const;
    const descriptor: KvDescriptor = { version: 1, layers, storage };
    const time = new LoopTime();
    const device = stack.use(await EngineDevice.open(runtime, provider));
    const pool = stack.use(new PagePool({ descriptor, pageCount: 8 }));
    const slots = stack.use(new Slots({ descriptor, maxSequences: 2, capacity: 16, device: device.memory }, time));
    const stage = stack.use(new PageStage(pool, 1 << 20));
    const packer = stack.use(await DevicePacker.create({ runtime, provider, slots, blockTokens: 4, time, stage }));
    const places = [
      { row: 1, token: 8, page: 0 },
      { row: 0, token: 0, page: 1 },
      { row: slots.prefillRow, token: 12, page: 2 },
    ];
    for (const { page } of places) pool.bytes(page).forEach((_, i, bytes) => void (bytes[i] = (i * 7 + page * 31) % 120));
    await packer.unpack(places);
    expect(await packer.difference(places)).toBeUndefined();
    await packer.pack(places.map((place) => ({ ...place, page: place.page + 4 })));
    for (const { page } of places) expect(Buffer.compare(pool.bytes(page), pool.bytes(page + 4))).toBe(0);
    await packer.poison(0);
    expect(await packer.difference(places)).toEqual(places[1]);
  });

  it('has memory of which tensors are whole buffers, and no bytes here', async () => {
    await using device = await EngineDevice.open(runtime, provider);
    using buffer = device.memory.allocate(64);
    using tensor = Tensor.of(buffer, 0, 'f32', [16]);
    expect(() => tensor.buffer).toThrow(/no bytes here/);
    expect(() => Tensor.of(buffer, 4, 'f32', [4])).toThrow(/cannot start 4 bytes into a device's buffer/);
    expect(() => Tensor.of(buffer, 0, 'f32', [17])).toThrow(/does not fit into 64 bytes/);
    expect(() => device.memory.allocate(0)).toThrow(/cannot allocate 0 bytes/);
    await using session = await runtime.createSession(copyGraph());
    expect(() => DeviceMemory.of(session, 'CPUExecutionProvider')).toThrow(/memory of CPUExecutionProvider is not known/);
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
