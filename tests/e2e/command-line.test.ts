/** `./causeway up` and its companions as a user meets them: real servers, real workers, the built-in model. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { eventually, freePort } from '@causeway/testkit';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { alive, CommandFolder, FIRST_LINE, processState, type Status } from './command-folder.ts';

/** One worker of a kind: quick to start where the processes themselves are not what is tested. */
const MINIMAL = ['--topology', resolve(import.meta.dirname, '../../topologies/minimal.yaml')];

let at: CommandFolder;

beforeEach(() => {
  at = new CommandFolder();
});

afterEach(() => at[Symbol.asyncDispose]());

/** Requests that a router holds, as its metrics say. */
async function held(router: Status['services'][number]): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${router.ports['observability']}/metrics`)).text();
  return [...text.matchAll(/^vllm:num_requests_(?:running|waiting)\{[^}]*\} (\d+)/gm)].reduce(
    (sum, match) => sum + Number(match[1]),
    0,
  );
}

test('up answers a first prompt through two chip families and expert shards, heals, refuses a second up, and Ctrl-C stops all of it and nothing else', async () => {
  const bystander = spawn('sleep', ['600']);
  const up = at.start(['up']);
  const line = await up.waitForLine(FIRST_LINE, 120_000);
  expect(line).toMatch(
    /^prefill-\d \(nvidia, emulated\) read \d+ tokens and sent [\d.]+ KiB of KV cache .* over NATS in [\d.]+ ms to decode-\d \(ascend, emulated\), which wrote \d+ tokens, calling experts of expert-\d \d+ times and of expert-\d \d+ times; first token after/,
  );
  await up.waitForLine(/^ready {2}HTTP/, 10_000);
  expect(up.lines.join('\n')).toMatch(/model The capital of France is Paris/);
  expect(up.lines.join('\n')).toContain('nvidia and ascend emulated');

  const first = await at.status();
  expect(first).toMatchObject({ running: true, phase: 'ready' });
  expect(first.services.map((service) => [service.name, service.ready])).toEqual([
    ['nats', true],
    ['redis', true],
    ['router', true],
    ['prefill-0', true],
    ['prefill-1', true],
    ['decode-0', true],
    ['decode-1', true],
    ['expert-0', true],
    ['expert-1', true],
  ]);
  expect(first.workers.map((worker) => [worker.id, worker.role, worker.chip])).toEqual([
    ['decode-0', 'decode', 'ascend'],
    ['decode-1', 'decode', 'ascend'],
    ['prefill-0', 'prefill', 'nvidia'],
    ['prefill-1', 'prefill', 'nvidia'],
  ]);
  for (const worker of first.workers) expect(worker.freePages).toBe(worker.totalPages);

  const second = await at.run(['up']);
  expect(second.code).toBe(1);
  expect(second.output).toMatch(
    /already up \(pid \d+, since .*\): http:\/\/127\.0\.0\.1:\d+, model tiny-moe\nuse it, or stop it first/,
  );

  const chat = await at.pipe(['What color is snow?', '/exit'], ['chat', '--temperature', '0']);
  expect(chat.code).toBe(0);
  expect(chat.output).toMatch(/white/i);

  const victim = first.services.find((service) => service.name === 'decode-0')?.pid ?? 0;
  process.kill(victim, 'SIGKILL');
  await up.waitForLine(/decode-0 {2} died \(pid \d+, signal SIGKILL\); starting it again/, 10_000);
  await eventually(
    async () => {
      const now = await at.status();
      const healed = now.services.find((service) => service.name === 'decode-0');
      return healed?.ready === true && healed.restarts === 1 && now.workers.length === 4;
    },
    { timeoutMs: 60_000, intervalMs: 300, what: 'decode-0 ready again' },
  );

  const pids = (await at.status()).services.map((service) => service.pid);
  const logs = await at.run(['logs', 'router', '-n', '5']);
  expect(logs.code).toBe(0);
  expect(logs.output).toMatch(/"service":"router"/);

  up.signal('INT');
  expect(await up.exited).toEqual({ code: 0, signal: null });
  const order = up.lines.filter((text) => / stopped in /.test(text)).map((text) => text.trim().split(' ')[0]);
  const roles = order.map((name) => name?.replace(/-\d$/, ''));
  expect(roles.slice(0, 7)).toEqual(['router', 'prefill', 'prefill', 'decode', 'decode', 'expert', 'expert']);
  expect(pids.filter(alive)).toEqual([]);
  expect(alive(bystander.pid ?? 0)).toBe(true);
  bystander.kill('SIGKILL');
  expect(await at.status()).toMatchObject({ running: false });
}, 240_000);

test('a taken default port is reported with its holder and replaced; a taken port that was asked for is an error', async () => {
  const [holder, taken] = [createServer(), await freePort()];
  const default8000 = createServer();
  await new Promise<void>((done) => holder.listen(taken, '127.0.0.1', done));
  // Someone else may hold 8000 on this machine already: then that one is the holder.
  await new Promise<void>((done) => default8000.once('error', () => done()).listen(8000, '127.0.0.1', done));

  const refused = await at.run(['up', '--http-port', String(taken)]);
  expect(refused.code).toBe(2);
  expect(refused.output).toMatch(
    new RegExp(`port ${taken} \\(--http-port\\) is taken by .*\\(pid ${process.pid}\\); name another or stop it`),
  );

  const up = at.start(['up', '--no-prompt', '--wait', '60', ...MINIMAL]);
  const note = await up.waitForLine(/port 8000 is taken by .* HTTP is on \d+ instead/, 60_000);
  await up.waitForLine(/^ready {2}HTTP/, 90_000);
  const { http } = await at.status();
  expect(http).toBe(`http://127.0.0.1:${/HTTP is on (\d+)/.exec(note)?.[1]}`);
  expect((await fetch(`${http}/readyz`)).status).toBe(200);
  holder.close();
  default8000.close();
}, 180_000);

test('up --detach returns when it is ready; what a killed one leaves is cleaned up by down', async () => {
  const detached = await at.run(['up', '--detach', '--http-port', String(await freePort()), ...MINIMAL]);
  expect(detached.output).toMatch(/running in the background \(pid (\d+)\)/);
  expect(detached.code).toBe(0);
  expect(detached.output.split('\n').some((line) => FIRST_LINE.test(line))).toBe(true);
  const supervisor = Number(/background \(pid (\d+)\)/.exec(detached.output)?.[1]);
  const pids = (await at.status()).services.map((service) => service.pid);
  expect(pids.every(alive)).toBe(true);

  process.kill(supervisor, 'SIGKILL');
  await eventually(() => !alive(supervisor));
  expect(pids.every(alive)).toBe(true);
  expect(await at.status()).toMatchObject({ running: false, phase: 'crashed' });
  const down = await at.run(['down']);
  expect(down.code).toBe(0);
  expect(down.output).toMatch(/had ended abruptly; stopped nats, redis, router, prefill, decode/);
  expect(pids.filter(alive)).toEqual([]);
  expect(existsSync(join(at.path, 'run', 'state.json'))).toBe(false);
}, 180_000);

test('a second Ctrl-C kills at once what would go on draining, a suspended worker too', async () => {
  const up = at.start(['up', '--no-prompt', ...MINIMAL]);
  await up.waitForLine(/^ready {2}HTTP/, 120_000);
  const { http, services } = await at.status();
  const named = (name: string): Status['services'][number] => {
    const found = services.find((service) => service.name === name);
    if (found === undefined) throw new Error(`there is no ${name}`);
    return found;
  };
  // The router waits in its drain for the answer that it holds, and the worker that should write it is only asked to end after it.
  const decode = named('decode').pid;
  process.kill(decode, 'SIGSTOP');
  const body = JSON.stringify({ model: 'tiny-moe', messages: [{ role: 'user', content: 'What color is snow?' }] });
  const asked = fetch(`${http}/v1/chat/completions`, { method: 'POST', headers: { 'content-type': 'application/json' }, body });
  const answer = asked.then(
    (response) => `status ${response.status}`,
    () => 'cut off',
  );
  await eventually(async () => (await held(named('router'))) === 1, { what: 'the request in the router' });
  up.signal('INT');
  await up.waitForLine(/SIGINT: draining/, 10_000);
  await new Promise((resolve) => setTimeout(resolve, 1000));
  expect(services.filter((service) => alive(service.pid))).toHaveLength(5);
  expect(processState(decode)).toBe('T');
  up.signal('INT');
  const began = performance.now();
  expect(await up.exited).toEqual({ code: 130, signal: null });
  // The router's drain alone would go on for 30 s.
  expect(performance.now() - began).toBeLessThan(15_000);
  expect(up.lines.join('\n')).toMatch(/router {4} stopped in [\d.]+ s \(signal SIGKILL\)/);
  expect(await answer).toBe('cut off');
  expect(services.filter((service) => alive(service.pid))).toEqual([]);
}, 180_000);

test('test -- -t PATTERN runs what is asked for, and counts nothing else', async () => {
  const file = 'services/cli/src/test-run/tally.test.ts';
  const some = await at.run(['test', '--', file, '-t', 'the skip list line .* is a failure']);
  expect(some.output).toMatch(/^3 passed, 0 failed, 0 skipped$/m);
  expect(some.code).toBe(0);
  const none = await at.run(['test', '--', file, '-t', 'no such test']);
  expect(none.output).toMatch(/no test was run\n0 passed, 1 failed, 0 skipped$/);
  expect(none.code).toBe(1);
});

test.each([
  [
    'an unknown model',
    ['up', '--model', 'no-such-model'],
    1,
    /there is no model "no-such-model": neither a folder in models\/ nor a path/,
  ],
  ['an unreadable topology', ['up', '--topology', 'absent.yaml'], 1, /cannot read the topology file absent\.yaml/],
  ['a bad port', ['up', '--http-port', '99999'], 2, /must be a whole number from 1 to 65535/],
  ['an unknown command', ['fly'], 2, /unknown command 'fly'/],
  ['chat without a cluster', ['chat'], 1, /no cluster of this checkout is up/],
  ['logs before anything ran', ['logs'], 1, /there are no logs yet/],
])('%s is refused with a reason and no stack', async (_what, args, code, expected) => {
  const result = await at.run(args);
  expect(result.output).toMatch(expected);
  expect(result.output).not.toMatch(/\n {4}at /);
  expect(result.code).toBe(code);
});
