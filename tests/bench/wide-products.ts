/**
 * Products of 8-bit weights with f32 inputs: weights widened to f32, inputs in three int8 parts (`exact`), inputs rounded to int8 (`fast`).
 * Time and CPU time of one product, and the largest difference from the f64 product against the largest result.
 *   ./causeway bench wide-products [--threads 2] [--repeats 5] [--name wide-products]
 */
import { int8Parts, sumOfParts } from '@causeway/models';
import { GraphBuilder, int, type Value } from '@causeway/onnx-graph';
import { NativeBuffer, Runtime, Tensor } from '@causeway/ort';
import { flag, showSpread, spread, writeReport } from './bench-report.ts';

const threads = Number(flag('threads', '2'));
const repeats = Number(flag('repeats', '5'));
const GROUP = 32;
const SHAPES = [
  [2048, 2048],
  [2048, 8192],
  [8192, 2048],
] as const;
const ROWS = [1, 8, 256];
const FORMS = ['f32', 'parts', 'int8'] as const;
type Form = (typeof FORMS)[number];

function floats(buffer: NativeBuffer): Float32Array {
  const bytes = buffer.bytes();
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 2);
}

let state = 1;
/** From -1 to 1. */
function noise(): number {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
  return state / 2 ** 31;
}

function graphOf(form: Form, inputs: number, outputs: number): Uint8Array {
  const graph = new GraphBuilder(form);
  graph.input('x', 'f32', ['N', inputs]);
  const product = (x: Value): Value =>
    graph.contrib('MatMulNBits', [x, 'quants', 'scales'], {
      K: int(inputs),
      N: int(outputs),
      bits: int(8),
      block_size: int(GROUP),
      accuracy_level: int(4),
    });
  let y: Value;
  if (form === 'f32') {
    graph.external('wide', 'f32', [outputs, inputs]);
    y = graph.contrib('FusedMatMul', ['x', 'wide'], { transB: int(1) });
  } else {
    graph.external('quants', 'u8', [outputs, inputs / GROUP, GROUP]);
    graph.external('scales', 'f32', [outputs, inputs / GROUP]);
    y = form === 'int8' ? product('x') : sumOfParts(graph, product(int8Parts(graph, 'x', inputs, GROUP)));
  }
  graph.output(graph.rename(y, 'y'), 'f32', ['N', outputs]);
  return graph.serialize();
}

interface Sample {
  ms: number;
  cpuMs: number;
}

const observed: ({ inputs: number; outputs: number; rows: number; form: Form; repeat: number } & Sample)[] = [];
const errors: { inputs: number; outputs: number; rows: number; form: Form; error: number }[] = [];
await using runtime = Runtime.create({ threads });

/** Products by all forms, in turns. */
async function measure(inputs: number, outputs: number, rows: number): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const allocate = (count: number): NativeBuffer => stack.use(NativeBuffer.allocate(count));
  const quants = allocate(inputs * outputs);
  const scales = allocate((inputs / GROUP) * outputs * 4);
  const wide = allocate(inputs * outputs * 4);
  const x = allocate(rows * inputs * 4);
  const y = allocate(rows * outputs * 4);
  const [q, s, w, xs, ys] = [quants.bytes(), floats(scales), floats(wide), floats(x), floats(y)];
  for (let i = 0; i < q.length; i++) q[i] = Math.round(noise() * 127) + 128;
  for (let i = 0; i < s.length; i++) s[i] = 0.0005 * (1 + noise() / 2);
  for (let i = 0; i < w.length; i++) w[i] = (s[Math.floor(i / GROUP)] ?? 0) * ((q[i] ?? 0) - 128);
  // Some large ones among many small.
  for (let i = 0; i < xs.length; i++) xs[i] = noise() * noise() * 4;
  const wanted = Float64Array.from({ length: outputs }, (_, output) => {
    let sum = 0;
    for (let k = 0; k < inputs; k++) sum += (xs[k] ?? 0) * (w[output * inputs + k] ?? 0);
    return sum;
  });
  const largest = wanted.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const tensor = (buffer: NativeBuffer, type: 'f32' | 'u8', shape: readonly number[]): Tensor =>
    stack.use(Tensor.of(buffer, 0, type, shape));
  const blocked = new Map([
    ['quants', tensor(quants, 'u8', [outputs, inputs / GROUP, GROUP])],
    ['scales', tensor(scales, 'f32', [outputs, inputs / GROUP])],
  ]);
  const initializers = { f32: new Map([['wide', tensor(wide, 'f32', [outputs, inputs])]]), parts: blocked, int8: blocked };
  const runs = new Map<Form, () => Promise<void>>();
  for (const form of FORMS) {
    const session = stack.use(await runtime.createSession(graphOf(form, inputs, outputs), { initializers: initializers[form] }));
    const binding = stack.use(session.createBinding());
    binding.input('x', tensor(x, 'f32', [rows, inputs]));
    binding.output('y', tensor(y, 'f32', [rows, outputs]));
    const run = (): Promise<void> => session.run(binding);
    runs.set(form, run);
    await run();
    const error = wanted.reduce((worst, value, i) => Math.max(worst, Math.abs(value - (ys[i] ?? Number.NaN))), 0) / largest;
    errors.push({ inputs, outputs, rows, form, error });
  }
  const times = rows > 64 ? 1 : 20;
  for (let repeat = 0; repeat < repeats; repeat++) {
    for (const [form, run] of runs) {
      const cpu = process.cpuUsage();
      const began = performance.now();
      for (let i = 0; i < times; i++) await run();
      const ms = (performance.now() - began) / times;
      const { user, system } = process.cpuUsage(cpu);
      observed.push({ inputs, outputs, rows, form, repeat, ms, cpuMs: (user + system) / 1000 / times });
    }
  }
}

for (const [inputs, outputs] of SHAPES) for (const rows of ROWS) await measure(inputs, outputs, rows);
const summary = errors.map(({ inputs, outputs, rows, form, error }) => {
  const mine = observed.filter(
    (one) => one.inputs === inputs && one.outputs === outputs && one.rows === rows && one.form === form,
  );
  const [ms, cpuMs] = [spread(mine.map((one) => one.ms)), spread(mine.map((one) => one.cpuMs))];
  console.log(
    `${inputs} x ${outputs}, ${rows} rows, ${form}: ${showSpread(ms)} ms, CPU ${showSpread(cpuMs)} ms, error ${error.toExponential(1)}`,
  );
  return { inputs, outputs, rows, form, ms, cpuMs, error };
});
writeReport(flag('name', 'wide-products'), {
  command: `./causeway bench wide-products ${process.argv.slice(2).join(' ')}`.trim(),
  peers: { f32: 'FusedMatMul of ONNX Runtime with the same weights in f32' },
  setting: { threads, repeats, group: GROUP },
  repeats: observed,
  summary,
});
