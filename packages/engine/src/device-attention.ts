/**
 * What a device's attention does right, tried before it is relied on. Of onnxruntime 1.30's WebGPU provider the kernel for 32 tokens or
 * more is wrong where a driver's subgroups are too small for it (SwiftShader's have four threads). It says nothing: numbers are wrong.
 */
import { fail } from '@causeway/errors';
import type { LayerGeometry } from '@causeway/kv';
import { cacheShape } from '@causeway/models';
import { GraphBuilder, int } from '@causeway/onnx-graph';
import { type Binding, NativeBuffer, type Runtime, Tensor, type TensorMemory } from '@causeway/ort';
import type { EngineDevice } from './engine-device.ts';

/** Tokens from which the provider takes its other kernel. */
const OTHER_KERNEL_TOKENS = 32;
/** Query heads of a key-value head. */
const SHARING = 2;
const CAPACITY = 96;
const PAST = 16;
const LARGEST_ERROR = 1e-3;
const F32 = 4;

export interface AttentionLimits {
  /** Tokens of a prefill run at most. */
  chunkTokens: number;
  /** Sequences of different lengths may be decoded in one run. */
  together: boolean;
}

/** One run: so many new tokens of sequences that have `past` each. */
interface Step {
  tokens: number;
  past: readonly number[];
}

/**
 * Tries attention of the layers' shapes on the device against the CPU.
 * @throws ServiceError `failed_precondition/provider_missing` when even few tokens of one sequence are wrong
 */
export async function attentionLimits(
  runtime: Runtime,
  device: EngineDevice,
  layers: readonly LayerGeometry[],
  chunkTokens: number,
): Promise<AttentionLimits> {
  const limits: AttentionLimits = { chunkTokens, together: true };
  const shapes = new Map(
    layers.map((layer) => [JSON.stringify({ ...cacheShape(layer), latent: layer.kind === 'latent' }), layer]),
  );
  for (const layer of shapes.values()) {
    const right = async (...steps: Step[]): Promise<boolean> => {
      const [here, there] = [await attend(runtime, undefined, layer, steps), await attend(runtime, device, layer, steps)];
      return here.every((value, i) => Math.abs(value - (there[i] as number)) <= LARGEST_ERROR);
    };
    const few = OTHER_KERNEL_TOKENS - 1;
    if (!(await right({ tokens: PAST, past: [0] }, { tokens: few, past: [PAST] }, { tokens: 1, past: [PAST + few] }))) {
      const { heads, width } = cacheShape(layer);
      const message = `${device.provider} computes attention of ${heads} heads of ${width} wrongly with this driver: install another one, or use chip cpu`;
      fail('failed_precondition', 'provider_missing', message);
    }
    const many = { tokens: 2 * OTHER_KERNEL_TOKENS, past: [PAST] };
    if (chunkTokens >= OTHER_KERNEL_TOKENS && !(await right({ tokens: PAST, past: [0] }, many))) limits.chunkTokens = few;
    const ragged = { tokens: 1, past: [5, PAST, 9] };
    limits.together &&= await right({ tokens: PAST, past: [0, 0, 0] }, ragged);
  }
  return limits;
}

/** What attention gives in the last of several steps over one cache, [B, T, width]. */
async function attend(
  runtime: Runtime,
  device: EngineDevice | undefined,
  layer: LayerGeometry,
  steps: readonly Step[],
): Promise<Float32Array> {
  await using stack = new AsyncDisposableStack();
  const { heads, width } = cacheShape(layer);
  const batch = steps[0]?.past.length ?? 0;
  const session = stack.use(
    await runtime.createSession(attentionGraph(heads, width), device === undefined ? {} : { provider: device.provider }),
  );
  const binding = stack.use(session.createBinding());
  const cacheBytes = batch * heads * CAPACITY * width * F32;
  const cache = (): Tensor => {
    const memory: TensorMemory = stack.use(device?.memory.allocate(cacheBytes) ?? NativeBuffer.allocate(cacheBytes));
    return stack.use(Tensor.of(memory, 0, 'f32', [batch, heads, CAPACITY, width]));
  };
  const keys = cache();
  const values = layer.kind === 'latent' ? keys : cache();
  binding.input('past_k', keys).input('past_v', values).output('present_k', keys).output('present_v', values);
  let result = new Float32Array();
  for (const [number, step] of steps.entries()) {
    using own = new DisposableStack();
    const output = bindStep(binding, own, { ...step, heads, width, latent: layer.kind === 'latent', seed: number });
    await session.run(binding);
    result = floats(output).slice();
  }
  return result;
}

function bindStep(
  binding: Binding,
  own: DisposableStack,
  o: Step & { heads: number; width: number; latent: boolean; seed: number },
): NativeBuffer {
  const { tokens, past, heads, width } = o;
  const shaped = (type: 'f32' | 'i32', shape: readonly number[]): { buffer: NativeBuffer; tensor: Tensor } => {
    const buffer = own.use(NativeBuffer.allocate(shape.reduce((product, dim) => product * dim, F32)));
    return { buffer, tensor: own.use(Tensor.of(buffer, 0, type, shape)) };
  };
  const row = (name: string, ofHeads: number, seed: number): void => {
    const { buffer, tensor } = shaped('f32', [past.length, tokens, ofHeads * width]);
    const numbers = floats(buffer);
    for (let i = 0; i < numbers.length; i++) numbers[i] = Math.sin((i + 1) * (seed + 1) * 0.7);
    binding.input(name, tensor);
  };
  row('q', heads * SHARING, o.seed);
  row('k', heads, o.seed + 3);
  row('v', heads, o.latent ? o.seed + 3 : o.seed + 6);
  const counts = (name: string, values: readonly number[]): void => {
    const { buffer, tensor } = shaped('i32', [values.length]);
    const bytes = buffer.bytes();
    new Int32Array(bytes.buffer, bytes.byteOffset, values.length).set(values);
    binding.input(name, tensor);
  };
  counts(
    'seqlens_k',
    past.map((length) => length + tokens - 1),
  );
  counts('total', [Math.max(...past) + tokens]);
  const { buffer, tensor } = shaped('f32', [past.length, tokens, heads * SHARING * width]);
  binding.output('y', tensor);
  return buffer;
}

function attentionGraph(heads: number, width: number): Uint8Array {
  const graph = new GraphBuilder('attention');
  const past = ['past_k', 'past_v'].map((name) => [name, ['B', heads, 'S', width]] as const);
  const inputs = [
    graph.input('q', 'f32', ['B', 'T', heads * SHARING * width]),
    graph.input('k', 'f32', ['B', 'T', heads * width]),
    graph.input('v', 'f32', ['B', 'T', heads * width]),
    ...past.map(([name, shape]) => graph.input(name, 'f32', shape)),
    graph.input('seqlens_k', 'i32', ['B']),
    graph.input('total', 'i32', [1]),
  ];
  graph.node('GroupQueryAttention', inputs, {
    domain: 'com.microsoft',
    attributes: { num_heads: int(heads * SHARING), kv_num_heads: int(heads) },
    outputs: ['y', 'present_k', 'present_v'],
  });
  graph.output('y', 'f32', ['B', 'T', heads * SHARING * width]);
  for (const name of ['present_k', 'present_v']) graph.output(name, 'f32', ['B', heads, 'S', width]);
  return graph.serialize();
}

function floats(buffer: NativeBuffer): Float32Array {
  const bytes = buffer.bytes();
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / F32);
}
