import { GraphBuilder, int, ints } from '@causeway/onnx-graph';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { diagnostics, NativeBuffer, Runtime, Tensor } from './index.ts';
import { addGraph, attentionGraph, integers, matMulGraph, numbers } from './testing/small-graphs.ts';

let runtime: Runtime;
beforeAll(() => {
  runtime = Runtime.create({ threads: 2 });
});
afterAll(async () => {
  await runtime[Symbol.asyncDispose]();
});

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

describe('a session', () => {
  test('adds, and says what it takes and gives', async () => {
    await using session = await runtime.createSession(addGraph());
    expect(session.inputs).toEqual([
      { name: 'x', type: 'f32', shape: ['N', 2] },
      { name: 'z', type: 'f32', shape: ['N', 2] },
    ]);
    expect(session.outputs).toEqual([{ name: 'y', type: 'f32', shape: ['N', 2] }]);
    using x = numbers([2, 2], (i) => i);
    using z = numbers([2, 2], 10);
    using y = numbers([2, 2], Number.NaN);
    using binding = session.createBinding().input('x', x.tensor).input('z', z.tensor).output('y', y.tensor);
    await session.run(binding);
    expect([...y.values]).toEqual([10, 11, 12, 13]);
  });

  test('describes types and sizes that tensors here cannot have', async () => {
    const g = new GraphBuilder('odd');
    g.input('x', 'i64', ['N', 3]);
    g.output(g.op('Size', ['x']), 'i64', []);
    await using session = await runtime.createSession(g.serialize());
    expect(session.inputs).toEqual([{ name: 'x', type: 'i64', shape: ['N', 3] }]);
    expect(session.outputs).toMatchObject([{ type: 'i64', shape: [] }]);
  });

  test.each(['none', 'basic', 'extended', 'all'] as const)('is the same at optimization %s', async (optimization) => {
    await using session = await runtime.createSession(addGraph(), { optimization, memoryPattern: true });
    using x = numbers([1, 2], 3);
    using y = numbers([1, 2]);
    using binding = session.createBinding().input('x', x.tensor).input('z', x.tensor).output('y', y.tensor);
    await session.run(binding);
    expect([...y.values]).toEqual([6, 6]);
  });

  test.each([true, false])('keeps no reference to the weights it was given (prepacking %s)', async (prepacking) => {
    const [k, n] = [256, 192];
    const weights = numbers([k, n], (i) => (i % 17) - 8);
    const expected = Array.from({ length: n }, (_, column) =>
      sum(Array.from({ length: k }, (_row, row) => (weights.values[row * n + column] as number) * (row % 5))),
    );
    await using session = await runtime.createSession(matMulGraph(k, n), {
      initializers: new Map([['w', weights.tensor]]),
      prepacking,
    });
    weights.values.fill(Number.NaN);
    weights[Symbol.dispose]();
    using x = numbers([1, k], (i) => i % 5);
    using y = numbers([1, n]);
    using binding = session.createBinding().input('x', x.tensor).output('y', y.tensor);
    await session.run(binding);
    expect([...y.values]).toEqual(expected);
  });

  describe('copies or packs every weight, whatever uses it', () => {
    const [k, n] = [64, 64];
    const bits = { K: int(k), N: int(n), bits: int(4), block_size: int(32) };
    const scales = (g: GraphBuilder) => g.constant('scales', 'f32', [n * (k / 32)], new Float32Array(n * (k / 32)).fill(1));
    const uses: [string, 'f32' | 'u8', number[], (g: GraphBuilder) => string][] = [
      ['a product', 'f32', [k, n], (g) => g.op('MatMul', ['x', 'w'])],
      ['a product on the left', 'f32', [1, 1], (g) => g.op('MatMul', ['w', 'x'])],
      ['a transposed product', 'f32', [n, k], (g) => g.op('MatMul', ['x', g.op('Transpose', ['w'], { perm: ints(1, 0) })])],
      ['a sum', 'f32', [n], (g) => g.op('Add', ['x', 'w'])],
      ['one number', 'f32', [1], (g) => g.op('Add', ['x', 'w'])],
      ['a folded constant', 'f32', [n], (g) => g.op('Mul', ['x', g.op('Add', ['w', g.scalar(1)])])],
      ['a norm', 'f32', [n], (g) => g.node('SimplifiedLayerNormalization', ['x', 'w'])[0] as string],
      ['a table', 'f32', [1000, n], (g) => g.op('Add', ['x', g.op('Gather', ['w', g.int64s(7)], { axis: int(0) })])],
      ...[0, 4].map((level): [string, 'u8', number[], (g: GraphBuilder) => string] => [
        `4-bit numbers at level ${level}`,
        'u8',
        [n, k / 32, 16],
        (g) => g.contrib('MatMulNBits', ['x', 'w', scales(g)], { ...bits, accuracy_level: int(level) }),
      ]),
    ];
    test.each(uses)('%s', async (_use, type, shape, build) => {
      const g = new GraphBuilder('use');
      g.input('x', 'f32', [1, k]);
      g.external('w', type, shape);
      g.rename(build(g), 'y');
      g.output('y', 'f32', [1, n]);
      using buffer = NativeBuffer.allocate(shape.reduce((product, dim) => product * dim, type === 'u8' ? 1 : 4));
      // As f32, 0x3f3f3f3f is 0.747.
      buffer.bytes().fill(0x3f);
      using weight = Tensor.of(buffer, 0, type, shape);
      await using session = await runtime.createSession(g.serialize(), { initializers: new Map([['w', weight]]) });
      using x = numbers([1, k], (i) => i % 5);
      using y = numbers([1, n]);
      using binding = session.createBinding().input('x', x.tensor).output('y', y.tensor);
      await session.run(binding);
      const first = [...y.values];
      expect(first.some((value) => value !== 0)).toBe(true);
      buffer.bytes().fill(0xff);
      y.values.fill(Number.NaN);
      await session.run(binding);
      expect([...y.values]).toEqual(first);
    });
  });

  test('runs several bindings at once', async () => {
    await using session = await runtime.createSession(addGraph());
    await using stack = new AsyncDisposableStack();
    const runs = Array.from({ length: 20 }, (_, i) => {
      const x = stack.use(numbers([1000, 2], i));
      const y = stack.use(numbers([1000, 2]));
      const binding = stack.use(session.createBinding()).input('x', x.tensor).input('z', x.tensor).output('y', y.tensor);
      return { y, done: session.run(binding) };
    });
    await Promise.all(runs.map(({ done }) => done));
    runs.forEach(({ y }, i) => expect(y.values.every((value) => value === 2 * i)).toBe(true));
  });

  test('uses what is bound now: rebinding replaces, and a run in between sees the old', async () => {
    await using session = await runtime.createSession(addGraph());
    using one = numbers([1, 2], 1);
    using two = numbers([2, 2], 2);
    using small = numbers([1, 2]);
    using large = numbers([2, 2]);
    using binding = session.createBinding().input('x', one.tensor).input('z', one.tensor).output('y', small.tensor);
    await session.run(binding);
    expect([...small.values]).toEqual([2, 2]);
    binding.input('x', two.tensor).input('z', two.tensor).output('y', large.tensor);
    await session.run(binding);
    expect([...large.values]).toEqual([4, 4, 4, 4]);
    binding.output('y', large.tensor).input('z', two.tensor);
    two.values.fill(5);
    await session.run(binding);
    expect([...large.values]).toEqual([10, 10, 10, 10]);
    expect([...small.values]).toEqual([2, 2]);
  });
});

describe('attention over a cache in place', () => {
  const [heads, kvHeads, dim, capacity] = [4, 2, 16, 32];
  const wave = (seed: number) => (i: number) => Math.sin(seed + i * 0.7);

  /** Causal attention of the last token, from all keys and values so far: [token][head][dim]. */
  function reference(q: readonly number[], keys: readonly number[][], values: readonly number[][]): number[] {
    return Array.from({ length: heads }, (_, head) => {
      const kv = Math.floor(head / (heads / kvHeads));
      const scores = keys.map(
        (key) =>
          sum(Array.from({ length: dim }, (_d, d) => (q[head * dim + d] as number) * (key[kv * dim + d] as number))) /
          Math.sqrt(dim),
      );
      const largest = Math.max(...scores);
      const exps = scores.map((score) => Math.exp(score - largest));
      const total = sum(exps);
      return Array.from({ length: dim }, (_d, d) =>
        sum(values.map((value, t) => ((exps[t] as number) / total) * (value[kv * dim + d] as number))),
      );
    }).flat();
  }

  test('reads only what was written, and writes only what is new: the rest of the slot stays NaN', async () => {
    await using session = await runtime.createSession(attentionGraph(heads, kvHeads, dim, capacity));
    using cacheK = numbers([1, kvHeads, capacity, dim], Number.NaN);
    using cacheV = numbers([1, kvHeads, capacity, dim], Number.NaN);
    using binding = session.createBinding();
    for (const [letter, cache] of [
      ['k', cacheK],
      ['v', cacheV],
    ] as const) {
      binding.input(`past_${letter}`, cache.tensor).output(`present_${letter}`, cache.tensor);
    }
    const keys: number[][] = [];
    const values: number[][] = [];
    let past = 0;
    for (const tokens of [4, 1, 1, 3]) {
      using q = numbers([1, tokens, heads * dim], wave(past + 1));
      using k = numbers([1, tokens, kvHeads * dim], wave(past + 100));
      using v = numbers([1, tokens, kvHeads * dim], wave(past + 200));
      using y = numbers([1, tokens, heads * dim], Number.NaN);
      using seqlens = integers([past + tokens - 1]);
      using total = integers([past + tokens]);
      binding.input('q', q.tensor).input('k', k.tensor).input('v', v.tensor).output('y', y.tensor);
      binding.input('seqlens_k', seqlens.tensor).input('total', total.tensor);
      await session.run(binding);
      for (let t = 0; t < tokens; t++) {
        const row = (part: Float32Array, width: number): number[] => [...part.subarray(t * width, (t + 1) * width)];
        keys.push(row(k.values, kvHeads * dim));
        values.push(row(v.values, kvHeads * dim));
        const expected = reference(row(q.values, heads * dim), keys, values);
        row(y.values, heads * dim).forEach((value, i) => expect(value).toBeCloseTo(expected[i] as number, 5));
      }
      past += tokens;
      for (const [cache, written] of [
        [cacheK, keys],
        [cacheV, values],
      ] as const) {
        for (let head = 0; head < kvHeads; head++) {
          for (let t = 0; t < capacity; t++) {
            const at = (head * capacity + t) * dim;
            const line = [...cache.values.subarray(at, at + dim)];
            if (t < past) expect(line).toEqual(written[t]?.slice(head * dim, (head + 1) * dim));
            else expect(line.every(Number.isNaN)).toBe(true);
          }
        }
      }
    }
  });
});

describe('misuse is a clear error, and leaves nothing behind', () => {
  test('of graphs: ONNX Runtime says what is wrong', async () => {
    const before = diagnostics();
    const bad: [string, Uint8Array, RegExp][] = [
      ['empty', new Uint8Array(), /^making a session: .*graph/i],
      ['noise', new Uint8Array(5000).fill(0xa5), /^making a session: .*protobuf/i],
      ['truncated', addGraph().slice(0, 60), /^making a session: /],
      ['unknown operator', unknownOperator(), /Nonsense/],
      ['weights that were not given', matMulGraph(4, 4), /^making a session: .*w/s],
    ];
    for (const [name, graph, message] of bad) {
      await expect(runtime.createSession(graph), name).rejects.toMatchObject({
        name: 'ServiceError',
        code: 'internal',
        reason: 'runtime',
        message: expect.stringMatching(message),
      });
    }
    expect(diagnostics()).toEqual(before);
  });

  test('of weights: wrong shape, wrong type, unknown name, freed', async () => {
    const before = diagnostics();
    {
      using buffer = NativeBuffer.allocate(1024);
      using wrongShape = Tensor.of(buffer, 0, 'f32', [4, 5]);
      using wrongType = Tensor.of(buffer, 0, 'i32', [4, 4]);
      using right = Tensor.of(buffer, 0, 'f32', [4, 4]);
      const freed = Tensor.of(buffer, 0, 'f32', [4, 4]);
      freed[Symbol.dispose]();
      const make = (name: string, tensor: Tensor) =>
        runtime.createSession(matMulGraph(4, 4), { initializers: new Map([[name, tensor]]) });
      for (const [name, tensor] of [
        ['w', wrongShape],
        ['w', wrongType],
        ['u', right],
        ['w', freed],
      ] as const) {
        await expect(make(name, tensor)).rejects.toMatchObject({ name: 'ServiceError', reason: 'runtime' });
      }
    }
    expect(diagnostics()).toEqual(before);
  });

  test('of options', async () => {
    await expect(runtime.createSession(addGraph(), { optimization: 'most' as 'all' })).rejects.toThrow(
      /optimization is one of none, basic/,
    );
    expect(() => Runtime.create({ threads: 0 })).toThrow(/threads is a number from 1 to 1024, not 0/);
    expect(() => Runtime.create({ threads: 2, logLevel: 'loud' as 'info' })).toThrow(/logLevel is one of verbose, /);
    expect(() => Runtime.create({ threads: 7 })).toThrow(
      /runs with threads 2, spin false, log level warning in this process, not with threads 7/,
    );
  });

  test('of bindings: names, types, tensors that are gone, missing inputs and outputs', async () => {
    await using session = await runtime.createSession(addGraph());
    await using other = await runtime.createSession(addGraph());
    using x = numbers([1, 2], 1);
    using whole = integers([1, 2]);
    using binding = session.createBinding();
    expect(() => binding.input('q', x.tensor)).toThrow(/the session has no input q; it has x, z/);
    expect(() => binding.output('x', x.tensor)).toThrow(/the session has no output x; it has y/);
    expect(() => binding.input('x', whole.tensor)).toThrow(/the input x is f32, not i32/);
    const gone = numbers([1, 2]);
    gone[Symbol.dispose]();
    expect(() => binding.input('x', gone.tensor)).toThrow(/a tensor was used after it was disposed/);
    await expect(session.run(binding)).rejects.toThrow(/inputs not bound: x, z/);
    binding.input('x', x.tensor).input('z', x.tensor);
    await expect(session.run(binding)).rejects.toThrow(/no output is bound: y/);
    binding.output('y', x.tensor);
    await expect(other.run(binding)).rejects.toThrow(/a binding of another session was run/);
    binding[Symbol.dispose]();
    binding[Symbol.dispose]();
    expect(() => binding.input('x', x.tensor)).toThrow(/a binding was used after it was disposed/);
    await expect(session.run(binding)).rejects.toThrow(/a binding was used after it was disposed/);
  });

  test('of shapes: ONNX Runtime refuses the run, and the session goes on', async () => {
    await using session = await runtime.createSession(addGraph());
    using x = numbers([1, 2], 1);
    using wide = numbers([1, 3], 1);
    using y = numbers([1, 2]);
    using tooSmall = numbers([3, 2]);
    using binding = session.createBinding().input('x', wide.tensor).input('z', x.tensor).output('y', y.tensor);
    await expect(session.run(binding)).rejects.toMatchObject({
      reason: 'runtime',
      message: expect.stringMatching(/^running a graph: .*x/s),
    });
    binding.input('x', x.tensor).output('y', tooSmall.tensor);
    await expect(session.run(binding)).rejects.toMatchObject({ reason: 'runtime' });
    binding.output('y', y.tensor);
    await session.run(binding);
    expect([...y.values]).toEqual([2, 2]);
  });
});

function unknownOperator(): Uint8Array {
  const g = new GraphBuilder('unknown');
  g.input('x', 'f32', [1]);
  g.output(g.op('Nonsense', ['x']), 'f32', [1]);
  return g.serialize();
}
