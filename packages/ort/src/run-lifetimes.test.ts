import { setTimeout } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { diagnostics, Runtime } from './index.ts';
import { addGraph, longSession, matMulGraph, numbers } from './testing/small-graphs.ts';

const NOTHING = {
  runtimes: 0,
  sessions: 0,
  bindings: 0,
  tensors: 0,
  buffers: 0,
  mappedBytes: 0,
  deviceBytes: 0,
  callsInFlight: 0,
};

let runtime: Runtime;
beforeEach(() => {
  expect(diagnostics()).toEqual(NOTHING);
  runtime = Runtime.create({ threads: 2 });
});
afterEach(async () => {
  await runtime[Symbol.asyncDispose]();
  // Large buffers are unmapped in the background.
  await expect.poll(diagnostics).toEqual(NOTHING);
});

/** Hundreds of nodes of a few milliseconds each. */
const LONG = { nodes: 400, rows: 128, size: 512 };
const long = () => longSession(runtime, LONG.nodes, LONG.rows, LONG.size);
const cancelled = { name: 'ServiceError', code: 'cancelled', reason: 'cancelled' };

describe('a run', () => {
  test('leaves the event loop free', async () => {
    await using graph = await long();
    const sections: number[] = [];
    let last = performance.eventLoopUtilization();
    let running = true;
    const started = performance.now();
    const run = graph.session.run(graph.binding).finally(() => {
      running = false;
    });
    let ticks = 0;
    while (running) {
      await setTimeout(1);
      ticks++;
      const now = performance.eventLoopUtilization();
      sections.push(now.active - last.active);
      last = now;
    }
    await run;
    const ms = performance.now() - started;
    expect(ms).toBeGreaterThan(20);
    // A run on the loop would leave room for no timer at all, and be active all the time.
    expect(ticks).toBeGreaterThan(3);
    expect(sections.reduce((a, b) => a + b, 0)).toBeLessThan(ms / 2);
  });

  test('ends soon after its signal, far from the end of its work, and the session goes on', async () => {
    await using graph = await long();
    const start = performance.now();
    await graph.session.run(graph.binding);
    const whole = performance.now() - start;
    const controller = new AbortController();
    const reason = new Error('the client went away');
    const again = performance.now();
    const run = graph.session.run(graph.binding, { signal: controller.signal });
    await setTimeout(whole / 20);
    controller.abort(reason);
    await expect(run).rejects.toMatchObject({
      ...cancelled,
      cause: reason,
      message: expect.stringMatching(/^the run was cancelled: .+/),
    });
    expect(performance.now() - again).toBeLessThan(whole / 2);
    graph.y.values.fill(-1);
    await graph.session.run(graph.binding, { signal: new AbortController().signal });
    expect(graph.y.values.every((value) => value > 0)).toBe(true);
  });

  test('does not start when its signal was aborted before', async () => {
    await using graph = await long();
    await expect(graph.session.run(graph.binding, { signal: AbortSignal.abort() })).rejects.toMatchObject(cancelled);
    expect(diagnostics().callsInFlight).toBe(0);
    expect(graph.y.values.every((value) => value === -1)).toBe(true);
  });

  test('that waits behind others for a thread ends when it would begin', async () => {
    // libuv has four threads; the runs behind them have not begun when they are aborted.
    await using graph = await long();
    await using stack = new AsyncDisposableStack();
    const controller = new AbortController();
    const runs = Array.from({ length: 12 }, () => {
      const y = stack.use(numbers([LONG.rows, LONG.size]));
      const binding = stack.use(graph.session.createBinding()).input('x', graph.x.tensor).output('y', y.tensor);
      return { y, run: graph.session.run(binding, { signal: controller.signal }) };
    });
    controller.abort();
    const results = await Promise.allSettled(runs.map(({ run }) => run));
    for (const result of results) expect(result).toMatchObject({ status: 'rejected', reason: cancelled });
    for (const { y } of runs) expect(y.values.every((value) => value === 0)).toBe(true);
  });

  test('removes its listener, aborted or not', async () => {
    await using session = await runtime.createSession(addGraph());
    using x = numbers([1, 2], 1);
    using y = numbers([1, 2]);
    using binding = session.createBinding().input('x', x.tensor).input('z', x.tensor).output('y', y.tensor);
    const { signal } = new AbortController();
    let listeners = 0;
    const { addEventListener, removeEventListener } = signal;
    signal.addEventListener = (...args: Parameters<typeof addEventListener>) => {
      listeners++;
      addEventListener.apply(signal, args);
    };
    signal.removeEventListener = (...args: Parameters<typeof removeEventListener>) => {
      listeners--;
      removeEventListener.apply(signal, args);
    };
    for (let i = 0; i < 10; i++) await session.run(binding, { signal });
    expect(listeners).toBe(0);
  });

  test('has its binding to itself', async () => {
    await using graph = await long();
    const run = graph.session.run(graph.binding);
    const busy = /a binding was changed or run while a run uses it/;
    expect(() => graph.binding.input('x', graph.x.tensor)).toThrow(busy);
    await expect(graph.session.run(graph.binding)).rejects.toThrow(busy);
    await run;
    graph.binding.input('x', graph.x.tensor);
  });
});

describe('disposing while a run is under way', () => {
  test('of binding, tensors and buffers waits for its end, and the result is right', async () => {
    const graph = await long();
    const run = graph.session.run(graph.binding);
    const { buffers, tensors } = diagnostics();
    const kept = graph.y.values;
    const hold = graph.y.buffer.retain();
    graph.binding[Symbol.dispose]();
    graph.x[Symbol.dispose]();
    graph.y[Symbol.dispose]();
    expect(diagnostics()).toMatchObject({ buffers, tensors, bindings: 1 });
    await run;
    expect(diagnostics()).toMatchObject({ tensors: 0, bindings: 0, buffers: 1 });
    expect(kept.every((value) => value > 0)).toBe(true);
    hold[Symbol.dispose]();
    expect(kept.length).toBe(0);
    await graph[Symbol.asyncDispose]();
  });

  test('of the session waits for it; a second dispose is the same one; nothing runs afterwards', async () => {
    await using graph = await long();
    let done = false;
    const run = graph.session.run(graph.binding).then(() => {
      done = true;
    });
    const closing = graph.session[Symbol.asyncDispose]();
    expect(graph.session[Symbol.asyncDispose]()).toBe(closing);
    await expect(graph.session.run(graph.binding)).rejects.toMatchObject({
      code: 'failed_precondition',
      message: 'a session was used after it was disposed',
    });
    await closing;
    expect([done, diagnostics().sessions]).toEqual([true, 0]);
    await run;
  });

  test('of the runtime waits for runs, for sessions in the making, and releases what was left open', async () => {
    const graph = await long();
    const run = graph.session.run(graph.binding);
    using weights = numbers([1024, 1024], 1);
    const making = runtime.createSession(matMulGraph(1024, 1024), { initializers: new Map([['w', weights.tensor]]) });
    const closing = runtime[Symbol.asyncDispose]();
    expect(runtime[Symbol.asyncDispose]()).toBe(closing);
    await expect(runtime.createSession(addGraph())).rejects.toThrow(/ONNX Runtime was used after it was disposed/);
    await closing;
    await Promise.all([run, making]);
    expect(diagnostics()).toMatchObject({ runtimes: 0, sessions: 0 });
    await graph[Symbol.asyncDispose]();
  });
});

test('weights may be disposed while a session is made of them', async () => {
  const weights = numbers([1024, 1024], 2);
  const making = runtime.createSession(matMulGraph(1024, 1024), { initializers: new Map([['w', weights.tensor]]) });
  weights[Symbol.dispose]();
  await using session = await making;
  using x = numbers([1, 1024], 1);
  using y = numbers([1, 1024]);
  using binding = session.createBinding().input('x', x.tensor).output('y', y.tensor);
  await session.run(binding);
  expect(y.values.every((value) => value === 2048)).toBe(true);
});

test('thousands of runs, rebindings and sessions leave nothing behind', async () => {
  const before = diagnostics();
  for (let round = 0; round < 20; round++) {
    await using session = await runtime.createSession(addGraph());
    using x = numbers([1, 2], 1);
    using binding = session.createBinding().input('x', x.tensor).input('z', x.tensor);
    for (let i = 0; i < 100; i++) {
      using y = numbers([1, 2]);
      await session.run(binding.output('y', y.tensor), i % 2 === 0 ? {} : { signal: new AbortController().signal });
    }
  }
  expect(diagnostics()).toEqual(before);
});

test('a runtime can be made again, with other settings, once the last is gone', async () => {
  const second = Runtime.create({ threads: 2 });
  await runtime[Symbol.asyncDispose]();
  expect(() => Runtime.create({ threads: 1 })).toThrow(/runs with threads 2/);
  await using session = await second.createSession(addGraph());
  expect(session.inputs).toHaveLength(2);
  await session[Symbol.asyncDispose]();
  await second[Symbol.asyncDispose]();
  await using third = Runtime.create({ threads: 1, logLevel: 'error' });
  expect(third.providers()).toContain('CPUExecutionProvider');
});
