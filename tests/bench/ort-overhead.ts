/**
 * What calling ONNX Runtime costs besides its work: a run of one tiny node, on this thread and on the pool, with and without a
 * signal, with inputs bound again; runs side by side; a session's making and end. Prints one JSON object, times in microseconds.
 *
 * Usage: node tests/bench/ort-overhead.ts [--runs N] [--threads N]
 */
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { GraphBuilder } from '@causeway/onnx-graph';
import { type Binding, NativeBuffer, Runtime, type Session, Tensor } from '@causeway/ort';

const { values } = parseArgs({
  options: { runs: { type: 'string', default: '2000' }, threads: { type: 'string', default: String(availableParallelism()) } },
});
const runs = Number(values.runs);
const threads = Number(values.threads);
const SIDE_BY_SIDE = 16;

interface Times {
  p50: number;
  p99: number;
}

const rounded = (microseconds: number): number => Math.round(microseconds * 10) / 10;

/** Times of `count` calls one after another, after a tenth as many to warm up. */
async function measure(call: () => void | Promise<void>, count = runs): Promise<Times> {
  const times: number[] = [];
  for (let i = -Math.ceil(count / 10); i < count; i++) {
    const started = performance.now();
    await call();
    if (i >= 0) times.push((performance.now() - started) * 1000);
  }
  times.sort((a, b) => a - b);
  const at = (share: number): number =>
    rounded(times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? Number.NaN);
  return { p50: at(0.5), p99: at(0.99) };
}

function tinyGraph(): Uint8Array {
  const graph = new GraphBuilder('tiny');
  graph.input('x', 'f32', [1, 2]);
  graph.rename(graph.op('Add', ['x', 'x']), 'y');
  graph.output('y', 'f32', [1, 2]);
  return graph.serialize();
}

await using stack = new AsyncDisposableStack();
const runtime = stack.use(Runtime.create({ threads }));
const graph = tinyGraph();
const session = stack.use(await runtime.createSession(graph));
const memory = stack.use(NativeBuffer.allocate(64));
const [x1, x2, y] = [0, 8, 16].map((offset) => stack.use(Tensor.of(memory, offset, 'f32', [1, 2]))) as [Tensor, Tensor, Tensor];
const bind = (on: Session): Binding => on.createBinding().input('x', x1).output('y', y);
const binding = stack.use(bind(session));
const { signal } = new AbortController();

const onThisThread = await measure(() => session.runHere(binding));
const onThePool = await measure(() => session.run(binding));
const withSignal = await measure(() => session.run(binding, { signal }));
let turn = 0;
const boundAgain = await measure(() => session.run(binding.input('x', turn++ % 2 === 0 ? x1 : x2)));
const bindOnly = await measure(() => void binding.input('x', turn++ % 2 === 0 ? x1 : x2));
const many = Array.from({ length: SIDE_BY_SIDE }, () => stack.use(bind(session)));
const sideBySide = await measure(
  async () => {
    await Promise.all(many.map((each) => session.run(each)));
  },
  Math.ceil(runs / SIDE_BY_SIDE),
);
const makeAndEnd = await measure(
  async () => {
    await using another = await runtime.createSession(graph);
    void another;
  },
  Math.ceil(runs / 50),
);

const perRun = { p50: rounded(sideBySide.p50 / SIDE_BY_SIDE), p99: rounded(sideBySide.p99 / SIDE_BY_SIDE) };
console.log(
  JSON.stringify(
    {
      unit: 'microseconds',
      runs,
      threads,
      run: { onThisThread, onThePool, withSignal, boundAgain },
      bindOneTensor: bindOnly,
      sideBySide: { runs: SIDE_BY_SIDE, perRun },
      makeAndEndSession: makeAndEnd,
    },
    undefined,
    2,
  ),
);
