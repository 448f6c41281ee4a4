/**
 * What a session's weights cost in memory: resident bytes of the process before the session, at the peak of its making, after it, and
 * once the weights that were given are freed. Each kind in a process of its own. Prints one JSON object, sizes in MiB.
 *
 * Usage: node tests/bench/ort-weights.ts
 */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { GraphBuilder, int } from '@causeway/onnx-graph';
import { diagnostics, ELEMENT_BYTES, NativeBuffer, Runtime, Tensor } from '@causeway/ort';

const SIZE = 2048;
const BLOCK = 32;

/** Adds layers with external weights to a graph whose value is f32 [1, SIZE]; gives the new value. */
type Kind = (graph: GraphBuilder, value: string, weight: Weight) => string;
type Weight = (type: 'f32' | 'u8', shape: readonly number[]) => string;

const quantised =
  (bits: 4 | 8, level: 0 | 4, layers: number): Kind =>
  (graph, start, weight) => {
    const attributes = { K: int(SIZE), N: int(SIZE), bits: int(bits), block_size: int(BLOCK), accuracy_level: int(level) };
    let value = start;
    for (let i = 0; i < layers; i++) {
      const quants = weight('u8', [SIZE, SIZE / BLOCK, (BLOCK * bits) / 8]);
      value = graph.contrib('MatMulNBits', [value, quants, weight('f32', [(SIZE * SIZE) / BLOCK])], attributes);
    }
    return value;
  };

const KINDS: Readonly<Record<string, Kind>> = {
  'MatMul f32': (graph, start, weight) => {
    let value = start;
    for (let i = 0; i < 16; i++) value = graph.op('MatMul', [value, weight('f32', [SIZE, SIZE])]);
    return value;
  },
  'MatMulNBits 4 bits, level 4': quantised(4, 4, 96),
  'MatMulNBits 4 bits, level 0': quantised(4, 0, 96),
  'MatMulNBits 8 bits, level 4': quantised(8, 4, 48),
  'Gather f32': (graph, start, weight) => {
    const row = graph.op('Cast', [graph.op('ReduceSum', [start, graph.int64s(0, 1)], { keepdims: int(0) })], { to: int(7) });
    return graph.op('Add', [start, graph.op('Gather', [weight('f32', [32_768, SIZE]), row], { axis: int(0) })]);
  },
};

/** A line of /proc/self/status, MiB. */
function status(line: 'VmRSS' | 'VmHWM'): number {
  const kib = new RegExp(`${line}:\\s+(\\d+)`).exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
  return Math.round(Number(kib) / 1024);
}

/** Different bytes everywhere: ONNX Runtime stores equal packed weights once. */
function fill(bytes: Uint8Array, type: 'f32' | 'u8', seed: number): void {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  let state = seed * 7919 + 1;
  for (let i = 0; i < words.length; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
    words[i] = type === 'u8' ? state : 0x3c00_0000 + (state & 0xff_ffff);
  }
}

async function measure(build: Kind): Promise<object> {
  const graph = new GraphBuilder('weights');
  const wanted: { name: string; type: 'f32' | 'u8'; shape: readonly number[] }[] = [];
  const value = build(graph, graph.input('x', 'f32', [1, SIZE]), (type, shape) => {
    const name = `w${wanted.length}`;
    wanted.push({ name, type, shape });
    return graph.external(name, type, shape);
  });
  graph.output(graph.rename(value, 'y'), 'f32', [1, SIZE]);
  await using runtime = Runtime.create({ threads: 2 });
  const empty = status('VmRSS');
  const given = new DisposableStack();
  let bytes = 0;
  const initializers = new Map(
    wanted.map(({ name, type, shape }, i) => {
      const length = shape.reduce((product, dim) => product * dim, ELEMENT_BYTES[type]);
      const buffer = given.use(NativeBuffer.allocate(length));
      fill(buffer.bytes(), type, i);
      bytes += length;
      return [name, given.use(Tensor.of(buffer, 0, type, shape))];
    }),
  );
  const before = status('VmRSS');
  writeFileSync('/proc/self/clear_refs', '5');
  const started = performance.now();
  await using session = await runtime.createSession(graph.serialize(), { initializers });
  void session;
  const ms = Math.round(performance.now() - started);
  const [peak, after] = [status('VmHWM'), status('VmRSS')];
  given.dispose();
  // Large buffers are unmapped in the background.
  while (diagnostics().callsInFlight > 0) await setImmediate();
  const freed = status('VmRSS');
  const weights = Math.round(bytes / 2 ** 20);
  return { weights, before: before - empty, peak: peak - empty, after: after - empty, freed: freed - empty, ms };
}

const kind = KINDS[process.argv[2] ?? ''];
if (kind !== undefined) {
  console.log(JSON.stringify(await measure(kind)));
} else {
  const results = Object.keys(KINDS).map((name) => {
    const line = execFileSync(process.execPath, [import.meta.filename, name], { encoding: 'utf8' });
    return { kind: name, ...(JSON.parse(line) as object) };
  });
  console.log(JSON.stringify({ bench: 'ort-weights', unit: 'MiB', results }, undefined, 2));
}
