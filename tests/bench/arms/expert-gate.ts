/** The router of one layer by itself: a segment of its own, run as an engine runs segments. */
import { openCheckpoint } from '@causeway/model-files';
import { loadModel } from '@causeway/models';
import { NativeBuffer, Runtime, Tensor } from '@causeway/ort';

export interface Gate extends AsyncDisposable {
  /** Chooses experts for so many random rows; gives the milliseconds. */
  run(tokens: number): Promise<number>;
}

/** Loads the router of the first layer with experts. */
export async function openGate(folder: string): Promise<Gate> {
  await using opening = new AsyncDisposableStack();
  const checkpoint = opening.use(await openCheckpoint(folder));
  const model = opening.use(
    await loadModel({
      checkpoint,
      precision: 'exact',
      experts: 'remote',
      gatesApart: true,
      segmentBytes: Number.MAX_SAFE_INTEGER,
    }),
  );
  const segment = model.segments.find(({ name }) => name.startsWith('gate.'));
  if (segment === undefined) throw new Error(`${checkpoint.name} has no router`);
  const runtime = opening.use(Runtime.create({ threads: 1 }));
  const session = opening.use(await runtime.createSession(segment.graph, { initializers: await segment.weights() }));
  const owned = opening.move();
  return {
    run: async (tokens) => {
      using memory = new DisposableStack();
      const tensor = ({ type, shape }: (typeof segment.inputs)[number]): Tensor => {
        const sizes = shape.map((dim) => (typeof dim === 'number' ? dim : tokens));
        const bytes = sizes.reduce((product, dim) => product * dim, type === 'i64' ? 8 : 4);
        return memory.use(Tensor.of(memory.use(NativeBuffer.allocate(bytes)), 0, type, sizes));
      };
      const binding = memory.use(session.createBinding());
      for (const spec of segment.inputs) {
        const input = tensor(spec);
        const bytes = input.buffer.bytes(0, input.byteLength);
        const numbers = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
        for (let i = 0; i < numbers.length; i++) numbers[i] = Math.random() - 0.5;
        binding.input(spec.name, input);
      }
      for (const spec of segment.outputs) binding.output(spec.name, tensor(spec));
      const start = performance.now();
      await session.run(binding);
      return performance.now() - start;
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
