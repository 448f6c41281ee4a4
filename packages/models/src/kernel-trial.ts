/** A product with made-up numbers, run where a model will run: kernels differ by processor, and what they do is tried at load. */
import { NativeBuffer, type Runtime, Tensor } from '@causeway/ort';

/** Threads share rows in tiles of 128: with 130 the last two are a tile of their own. */
export const TRIAL_ROWS = 130;
/** Counts of rows that end in a lone one, or are one, for kernels of up to 8 rows. */
const COUNTS = [1, 2, 3, 4, 5, 7, 8, 9, 17, 33, 129];
/** Inputs, inputs of a group, outputs: blocks in fours and what is left of them, outputs in sixteens, fours and ones. */
export const TRIAL_SHAPES = [
  [32, 16, 19],
  [96, 32, 64],
  [288, 32, 37],
  [576, 16, 48],
  [1568, 32, 21],
] as const;

export interface TrialShape {
  inputs: number;
  group: number;
  outputs: number;
  bits: 4 | 8;
}

/** Numbers without pattern from -scale to scale, the same at every call. */
function fill(values: Float32Array, scale: number): void {
  let state = 0x2545_f491;
  for (let i = 0; i < values.length; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
    values[i] = (state / 2 ** 31) * scale;
  }
}

function floats(buffer: NativeBuffer): Float32Array {
  const bytes = buffer.bytes();
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 2);
}

/** A session of one product: graph input `x` f32 [N, inputs], output `y` f32 [N, outputs], weights `quants` and `scales` as MatMulNBits has them. */
export class KernelTrial implements AsyncDisposable {
  readonly shape: TrialShape;
  /** [TRIAL_ROWS, inputs] */
  readonly x: Float32Array;
  /** u8 [outputs, inputs / group, group * bits / 8] */
  readonly quants: Uint8Array;
  /** [outputs, inputs / group] */
  readonly scales: Float32Array;
  readonly #run: (first: number, count: number) => Promise<Float32Array>;
  readonly #stack: AsyncDisposableStack;

  private constructor(
    made: Pick<KernelTrial, 'shape' | 'x' | 'quants' | 'scales'>,
    stack: AsyncDisposableStack,
    run: (first: number, count: number) => Promise<Float32Array>,
  ) {
    this.shape = made.shape;
    this.x = made.x;
    this.quants = made.quants;
    this.scales = made.scales;
    this.#stack = stack;
    this.#run = run;
  }

  /** `extremes`: the first two outputs have the largest and the least weights, the first two rows nothing but 3 and -3. @throws ServiceError `runtime` */
  static async create(
    runtime: Runtime,
    shape: TrialShape,
    graph: Uint8Array,
    { extremes = false }: { extremes?: boolean } = {},
  ): Promise<KernelTrial> {
    await using stack = new AsyncDisposableStack();
    const { inputs, group, outputs, bits } = shape;
    const groups = inputs / group;
    const allocate = (bytes: number): NativeBuffer => stack.use(NativeBuffer.allocate(bytes));
    const quants = allocate((outputs * inputs * bits) / 8);
    const noise = new Float32Array(quants.byteLength);
    fill(noise, 128);
    quants.bytes().set(Uint8Array.from(noise, (value) => value & 255));
    const scales = allocate(outputs * groups * 4);
    fill(floats(scales), 0.02);
    const x = allocate(TRIAL_ROWS * inputs * 4);
    fill(floats(x), 3);
    if (extremes) {
      const row = (inputs * bits) / 8;
      quants
        .bytes()
        .fill(255, 0, row)
        .fill(0, row, 2 * row);
      floats(x)
        .fill(3, 0, inputs)
        .fill(-3, inputs, 2 * inputs);
    }
    const initializers = new Map([
      ['quants', stack.use(Tensor.of(quants, 0, 'u8', [outputs, groups, (group * bits) / 8]))],
      ['scales', stack.use(Tensor.of(scales, 0, 'f32', [outputs, groups]))],
    ]);
    const session = stack.use(await runtime.createSession(graph, { initializers }));
    const y = allocate(TRIAL_ROWS * outputs * 4);
    const run = async (first: number, count: number): Promise<Float32Array> => {
      using scope = new DisposableStack();
      const binding = scope.use(session.createBinding());
      binding.input('x', scope.use(Tensor.of(x, first * inputs * 4, 'f32', [count, inputs])));
      binding.output('y', scope.use(Tensor.of(y, 0, 'f32', [count, outputs])));
      await session.run(binding);
      return floats(y).slice(0, count * outputs);
    };
    return new KernelTrial({ shape, x: floats(x), quants: quants.bytes(), scales: floats(scales) }, stack.move(), run);
  }

  /** [count, outputs] of the rows from `first` on. */
  rows(first: number, count: number): Promise<Float32Array> {
    return this.#run(first, count);
  }

  /** Computes all rows, then every count of them alone, and compares the bits. */
  async rowsAlike(): Promise<boolean> {
    const { outputs } = this.shape;
    const all = await this.rows(0, TRIAL_ROWS);
    for (const count of COUNTS) {
      const first = TRIAL_ROWS - count;
      const some = await this.rows(first, count);
      if (some.some((value, i) => value !== all[first * outputs + i])) return false;
    }
    return true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}
