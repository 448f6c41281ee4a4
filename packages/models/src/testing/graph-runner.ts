/** Runs one segment draft over JavaScript arrays, for tests of building blocks. */
import { NativeBuffer, type Runtime, type Session, Tensor } from '@causeway/ort';
import type { SegmentDraft } from '../segment-builder.ts';
import type { SymbolicDim, ValueSpec } from '../types.ts';
import type { WeightLibrary } from '../weight-library.ts';

type Numbers = Float32Array | BigInt64Array | Int32Array;
const MAKE = {
  f32: (b: ArrayBuffer) => new Float32Array(b),
  i64: (b: ArrayBuffer) => new BigInt64Array(b),
  i32: (b: ArrayBuffer) => new Int32Array(b),
};

export interface GraphRunner extends AsyncDisposable {
  run(
    inputs: Record<string, Numbers>,
    sizes: Partial<Record<Exclude<SymbolicDim, number>, number>>,
  ): Promise<Map<string, Numbers>>;
}

/** Makes a session of a draft whose weights the library has converted. */
export async function runGraph(runtime: Runtime, draft: SegmentDraft, library: WeightLibrary): Promise<GraphRunner> {
  const initializers = new Map(draft.weights.map((ref) => [ref.name, library.tensor(ref)]));
  const session: Session = await runtime.createSession(draft.graph, { initializers });
  return {
    run: async (inputs, sizes) => {
      using stack = new DisposableStack();
      const binding = stack.use(session.createBinding());
      const allocate = (spec: ValueSpec): Tensor => {
        const shape = spec.shape.map((dim) => (typeof dim === 'number' ? dim : (sizes[dim] ?? 0)));
        const bytes = shape.reduce((product, dim) => product * dim, spec.type === 'i64' ? 8 : 4);
        return stack.use(Tensor.of(stack.use(NativeBuffer.allocate(Math.max(bytes, 1))), 0, spec.type, shape));
      };
      for (const spec of draft.inputs) {
        const tensor = allocate(spec);
        const given = inputs[spec.name] ?? new Float32Array();
        tensor.buffer.bytes().set(new Uint8Array(given.buffer, given.byteOffset, given.byteLength));
        binding.input(spec.name, tensor);
      }
      const outputs = draft.outputs.map((spec) => ({ spec, tensor: allocate(spec) }));
      for (const { spec, tensor } of outputs) binding.output(spec.name, tensor);
      await session.run(binding);
      return new Map(
        outputs.map(({ spec, tensor }) => {
          const make = MAKE[spec.type as keyof typeof MAKE];
          return [spec.name, make(tensor.buffer.bytes(0, tensor.byteLength).slice().buffer)];
        }),
      );
    },
    [Symbol.asyncDispose]: () => session[Symbol.asyncDispose](),
  };
}
