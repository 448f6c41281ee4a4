import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { identify, isAlive, type ProcessIdentity } from '../cluster/process-identity.ts';
import { type RunState, writeRunState } from '../cluster/run-state.ts';
import { runPaths, type RunPaths } from '../paths.ts';
import type { Output } from '../terminal/output.ts';
import { down } from './down.ts';

let paths: RunPaths;
let said: string[];
const started: ChildProcess[] = [];

beforeEach(() => {
  paths = runPaths(mkdtempSync(join(tmpdir(), 'causeway-down-')));
  said = [];
});

afterEach(() => {
  for (const child of started.splice(0)) child.kill('SIGKILL');
  rmSync(paths.folder, { recursive: true });
});

/** A process that has said that it is there. */
async function start(program: string): Promise<ProcessIdentity> {
  const child = spawn(process.execPath, ['-e', `${program}; setInterval(() => {}, 1000); console.log('up')`], {
    detached: true,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  started.push(child);
  await once(child.stdout, 'data');
  const identity = identify(child.pid ?? 0);
  if (identity === undefined) throw new Error('it did not start');
  return identity;
}

function write(supervisor: ProcessIdentity, service: ProcessIdentity, more: Partial<RunState> = {}): void {
  writeRunState(paths, {
    version: 1,
    supervisor,
    startedAt: new Date().toISOString(),
    phase: 'ready',
    models: [{ name: 'm', path: '/m' }],
    httpUrl: 'http://127.0.0.1:1',
    grpcAddress: '127.0.0.1:2',
    natsUrl: 'nats://127.0.0.1:3',
    redisUrl: 'redis://127.0.0.1:4',
    services: [{ name: 'decode', kind: 'decode', process: service, phase: 'ready', restarts: 0, log: '/dev/null', ports: {} }],
    ...more,
  });
}

function stop(now = false): Promise<number> {
  const plain = (text: string): string => text;
  const out: Output = {
    terminal: false,
    write: (text) => void said.push(text),
    line: (text = '') => void said.push(text),
    warn: (text) => void said.push(text),
    dim: plain,
    bold: plain,
    red: plain,
  };
  return down({ now }, { paths, out });
}

test('a suspended supervisor is resumed to drain', async () => {
  const supervisor = await start("process.on('SIGTERM', () => process.exit(0))");
  write(supervisor, supervisor);
  process.kill(supervisor.pid, 'SIGSTOP');
  expect(await stop()).toBe(0);
  expect(isAlive(supervisor)).toBe(false);
  expect(said.at(-1)).toBe('stopped');
});

test('a supervisor that does not end is killed when its drain should be over, and what it ran is stopped', async () => {
  const supervisor = await start("process.on('SIGTERM', () => {})");
  const service = await start('0');
  write(supervisor, service, { stopWithinMs: 100 });
  expect(await stop()).toBe(0);
  expect([supervisor, service].filter(isAlive)).toEqual([]);
  expect(said).toContain('  running: decode');
  expect(said.at(-1)).toBe('it did not end within 3.1 s: killed it and stopped decode');
  expect(existsSync(paths.state)).toBe(false);
});

test.each([
  ['ready', false, 'TERM'],
  ['ready', true, 'TERM INT'],
  ['draining', true, 'INT'],
] as const)('a supervisor that is %s gets, with now %s, %s: its second signal kills', async (phase, now, signals) => {
  const wanted = signals.split(' ').length;
  const supervisor = await start(
    `const got = []; for (const name of ['TERM', 'INT']) process.on('SIG' + name, () => {
      got.push(name);
      if (got.length === ${wanted}) require('node:fs').writeFileSync(${JSON.stringify(paths.state)} + '.got', got.join(' ')), process.exit(0);
    })`,
  );
  write(supervisor, supervisor, { phase });
  expect(await stop(now)).toBe(0);
  expect(readFileSync(`${paths.state}.got`, 'utf8').split(' ').toSorted()).toEqual(signals.split(' ').toSorted());
});

test('one that is draining already is left to it', async () => {
  const supervisor = await start("process.on('SIGTERM', () => process.exit(1)); setTimeout(() => process.exit(0), 500)");
  write(supervisor, supervisor, { phase: 'draining' });
  const began = performance.now();
  expect(await stop()).toBe(0);
  expect(performance.now() - began).toBeGreaterThan(100);
});
