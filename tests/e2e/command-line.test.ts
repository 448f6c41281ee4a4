/** `./causeway up` and its companions as a user meets them: real servers, real workers, the built-in model. */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { Child, eventually, freePort } from '@causeway/testkit';
import { afterEach, beforeEach, expect, test } from 'vitest';

const MAIN = resolve(import.meta.dirname, '../../services/cli/src/main.ts');
const FIRST_LINE =
  /^prefill \(cpu\) read \d+ tokens and sent [\d.]+ KiB of KV cache \(.+\) over NATS in [\d.]+ m?s to decode \(cpu\), which wrote \d+ tokens; first token after [\d.]+ m?s, then \d+ tokens\/s$/;

let folder: string;
const running: Child[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'causeway-cli-'));
});

afterEach(async () => {
  for (const child of running.splice(0)) await child.stop();
  await cli(['down', '--now']).exited;
  rmSync(folder, { recursive: true, force: true });
});

function cli(args: readonly string[]): Child {
  const env = { PATH: process.env['PATH'] ?? '', HOME: folder, CAUSEWAY_RUN_DIR: join(folder, 'run') };
  const child = new Child({ command: process.execPath, args: [MAIN, ...args], env, cwd: folder });
  running.push(child);
  return child;
}

async function run(args: readonly string[]): Promise<{ code: number | null; output: string }> {
  const child = cli(args);
  const { code } = await child.exited;
  return { code, output: child.lines.join('\n') };
}

interface Status {
  running: boolean;
  phase: string;
  http: string;
  services: { name: string; pid: number; ready: boolean; restarts: number }[];
  workers: { id: string; role: string; chip: string; freePages: number; totalPages: number }[];
}

async function status(): Promise<Status> {
  return JSON.parse((await run(['status', '--json'])).output) as Status;
}

function alive(pid: number): boolean {
  try {
    return !readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ');
  } catch {
    return false;
  }
}

test('up answers a first prompt through two workers, heals, refuses a second up, and Ctrl-C stops all of it and nothing else', async () => {
  const bystander = spawn('sleep', ['600']);
  const up = cli(['up']);
  const line = await up.waitForLine(FIRST_LINE, 120_000);
  expect(line).toMatch(FIRST_LINE);
  await up.waitForLine(/^ready {2}HTTP/, 10_000);
  expect(up.lines.join('\n')).toMatch(/model The capital of France is Paris/);

  const first = await status();
  expect(first).toMatchObject({ running: true, phase: 'ready' });
  expect(first.services.map((service) => [service.name, service.ready])).toEqual([
    ['nats', true],
    ['redis', true],
    ['router', true],
    ['prefill', true],
    ['decode', true],
  ]);
  expect(first.workers.map((worker) => [worker.id, worker.role, worker.chip])).toEqual([
    ['decode', 'decode', 'cpu'],
    ['prefill', 'prefill', 'cpu'],
  ]);
  for (const worker of first.workers) expect(worker.freePages).toBe(worker.totalPages);

  const second = await run(['up']);
  expect(second.code).toBe(1);
  expect(second.output).toMatch(
    /already up \(pid \d+, since .*\): http:\/\/127\.0\.0\.1:\d+, model tiny-moe\nuse it, or stop it first/,
  );

  const chat = new Child({
    command: 'sh',
    args: ['-c', `printf 'What color is snow?\\n/exit\\n' | "$NODE" ${MAIN} chat --temperature 0`],
    env: { PATH: process.env['PATH'] ?? '', NODE: process.execPath, CAUSEWAY_RUN_DIR: join(folder, 'run') },
  });
  expect((await chat.exited).code).toBe(0);
  expect(chat.lines.join('\n')).toMatch(/white/i);

  const victim = first.services.find((service) => service.name === 'decode')?.pid ?? 0;
  process.kill(victim, 'SIGKILL');
  await up.waitForLine(/decode {4} died \(pid \d+, signal SIGKILL\); starting it again/, 10_000);
  await eventually(
    async () => {
      const now = await status();
      const healed = now.services.find((service) => service.name === 'decode');
      return healed?.ready === true && healed.restarts === 1 && now.workers.length === 2;
    },
    { timeoutMs: 60_000, intervalMs: 300, what: 'decode ready again' },
  );

  const pids = (await status()).services.map((service) => service.pid);
  const logs = await run(['logs', 'router', '-n', '5']);
  expect(logs.code).toBe(0);
  expect(logs.output).toMatch(/"service":"router"/);

  up.signal('INT');
  expect(await up.exited).toEqual({ code: 0, signal: null });
  const order = up.lines.filter((text) => / stopped in /.test(text)).map((text) => text.trim().split(' ')[0]);
  expect(order.slice(0, 3)).toEqual(['router', 'prefill', 'decode']);
  expect(pids.filter(alive)).toEqual([]);
  expect(alive(bystander.pid ?? 0)).toBe(true);
  bystander.kill('SIGKILL');
  expect(await status()).toMatchObject({ running: false });
}, 240_000);

test('a taken default port is reported with its holder and replaced; a taken port that was asked for is an error', async () => {
  const [holder, taken] = [createServer(), await freePort()];
  const default8000 = createServer();
  await new Promise<void>((done) => holder.listen(taken, '127.0.0.1', done));
  // Someone else may hold 8000 on this machine already: then that one is the holder.
  await new Promise<void>((done) => default8000.once('error', () => done()).listen(8000, '127.0.0.1', done));

  const refused = await run(['up', '--http-port', String(taken)]);
  expect(refused.code).toBe(2);
  expect(refused.output).toMatch(
    new RegExp(`port ${taken} \\(--http-port\\) is taken by .*\\(pid ${process.pid}\\); name another or stop it`),
  );

  const up = cli(['up', '--no-prompt', '--wait', '60']);
  const note = await up.waitForLine(/port 8000 is taken by .* HTTP is on \d+ instead/, 60_000);
  await up.waitForLine(/^ready {2}HTTP/, 90_000);
  const { http } = await status();
  expect(http).toBe(`http://127.0.0.1:${/HTTP is on (\d+)/.exec(note)?.[1]}`);
  expect((await fetch(`${http}/readyz`)).status).toBe(200);
  holder.close();
  default8000.close();
}, 180_000);

test('up --detach returns when it is ready; what a killed one leaves is cleaned up by down', async () => {
  const detached = await run(['up', '--detach', '--http-port', String(await freePort())]);
  expect(detached.output).toMatch(/running in the background \(pid (\d+)\)/);
  expect(detached.code).toBe(0);
  expect(detached.output.split('\n').some((line) => FIRST_LINE.test(line))).toBe(true);
  const supervisor = Number(/background \(pid (\d+)\)/.exec(detached.output)?.[1]);
  const pids = (await status()).services.map((service) => service.pid);
  expect(pids.every(alive)).toBe(true);

  process.kill(supervisor, 'SIGKILL');
  await eventually(() => !alive(supervisor));
  expect(pids.every(alive)).toBe(true);
  expect(await status()).toMatchObject({ running: false, phase: 'crashed' });
  const down = await run(['down']);
  expect(down.code).toBe(0);
  expect(down.output).toMatch(/had ended abruptly; stopped nats, redis, router, prefill, decode/);
  expect(pids.filter(alive)).toEqual([]);
  expect(existsSync(join(folder, 'run', 'state.json'))).toBe(false);
}, 180_000);

test('a second Ctrl-C stops everything at once', async () => {
  const up = cli(['up', '--no-prompt']);
  await up.waitForLine(/^ready {2}HTTP/, 120_000);
  const { services } = await status();
  // A suspended worker cannot drain; resumed by the first signal, it would: stop it again until the second one kills.
  const decode = services.find((service) => service.name === 'decode')?.pid ?? 0;
  const prefill = services.find((service) => service.name === 'prefill')?.pid ?? 0;
  up.signal('INT');
  await up.waitForLine(/SIGINT: draining/, 10_000);
  up.signal('INT');
  const { code } = await up.exited;
  expect(code).toBe(130);
  expect([decode, prefill, ...services.map((service) => service.pid)].filter(alive)).toEqual([]);
}, 180_000);

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
  const result = await run(args);
  expect(result.output).toMatch(expected);
  expect(result.output).not.toMatch(/\n {4}at /);
  expect(result.code).toBe(code);
});
