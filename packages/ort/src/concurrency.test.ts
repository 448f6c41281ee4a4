import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Binding, diagnostics, Runtime, type Session } from './index.ts';
import { addGraph, longSession, type Numbers, numbers } from './testing/small-graphs.ts';

/** koffi's `max_async_calls`. */
const MOST_CALLS = 256;

let runtime: Runtime;
beforeAll(() => {
  runtime = Runtime.create({ threads: 2 });
});
afterAll(async () => {
  await runtime[Symbol.asyncDispose]();
});

interface Work {
  binding: Binding;
  y: Numbers;
  expected: number;
}

/** Bindings of their own, each with another input. */
function works(stack: AsyncDisposableStack, session: Session, count: number): Work[] {
  return Array.from({ length: count }, (_, i) => {
    const x = stack.use(numbers([1, 2], i));
    const y = stack.use(numbers([1, 2], -1));
    const binding = stack.use(session.createBinding()).input('x', x.tensor).input('z', x.tensor).output('y', y.tensor);
    return { binding, y, expected: 2 * i };
  });
}

test('as many runs as may wait all finish, each with its own result', async () => {
  await using stack = new AsyncDisposableStack();
  const session = stack.use(await runtime.createSession(addGraph()));
  const all = works(stack, session, MOST_CALLS);
  const runs = all.map(({ binding }) => session.run(binding));
  expect(diagnostics().callsInFlight).toBe(MOST_CALLS);
  await Promise.all(runs);
  for (const { y, expected } of all) expect([...y.values]).toEqual([expected, expected]);
  expect(diagnostics().callsInFlight).toBe(0);
});

test('more are refused at once; the others, and the refused ones later, still run', async () => {
  await using stack = new AsyncDisposableStack();
  const session = stack.use(await runtime.createSession(addGraph()));
  const all = works(stack, session, MOST_CALLS + 20);
  const results = await Promise.allSettled(all.map(({ binding }) => session.run(binding)));
  const refused = all.filter((_, i) => results[i]?.status === 'rejected');
  expect(refused).toEqual(all.slice(MOST_CALLS));
  expect(results.at(-1)).toMatchObject({ reason: { name: 'ServiceError', code: 'resource_exhausted', retry: 'same' } });
  for (const { y } of refused) expect([...y.values]).toEqual([-1, -1]);
  await Promise.all(refused.map(({ binding }) => session.run(binding)));
  for (const { y, expected } of all) expect([...y.values]).toEqual([expected, expected]);
});

test('runs of several sessions with more threads of work than the pool has wait for one another, and files are read after them', async () => {
  await using stack = new AsyncDisposableStack();
  const sessions = [];
  for (let i = 0; i < 6; i++) sessions.push(stack.use(await longSession(runtime, 20, 32, 256)));
  const runs = sessions.map((each) => each.session.run(each.binding));
  const file = readFile(import.meta.filename, 'utf8');
  await Promise.all(runs);
  expect(await file).toContain('MOST_CALLS');
  for (const { y } of sessions) expect(y.values.every((value) => value > 0)).toBe(true);
});

test('what is disposed while no more calls can be made is freed all the same', async () => {
  const before = diagnostics();
  const idle = await runtime.createSession(addGraph());
  const large = numbers([8 << 20]);
  {
    await using stack = new AsyncDisposableStack();
    const session = stack.use(await runtime.createSession(addGraph()));
    const runs = works(stack, session, MOST_CALLS).map(({ binding }) => session.run(binding));
    large[Symbol.dispose]();
    const closing = idle[Symbol.asyncDispose]();
    expect(diagnostics().callsInFlight).toBe(MOST_CALLS);
    await Promise.all([closing, ...runs]);
  }
  await expect.poll(diagnostics).toEqual(before);
});
