import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { runPaths } from '../paths.ts';
import { acquireInstanceLock } from './instance-lock.ts';
import { stopLeftovers } from './leftovers.ts';
import { identify, isAlive, type ProcessIdentity } from './process-identity.ts';
import { readRunState, type RunState, writeRunState } from './run-state.ts';

function state(services: RunState['services']): RunState {
  return {
    version: 1,
    supervisor: { pid: 99_999_999, start: 'gone:1' },
    startedAt: new Date().toISOString(),
    phase: 'ready',
    models: [{ name: 'm', path: '/m' }],
    httpUrl: 'http://127.0.0.1:1',
    grpcAddress: '127.0.0.1:2',
    natsUrl: 'nats://127.0.0.1:3',
    redisUrl: 'redis://127.0.0.1:4',
    services,
  };
}

function entry(name: string, identity: ProcessIdentity): RunState['services'][number] {
  return { name, kind: 'decode', process: identity, phase: 'ready', restarts: 0, log: '/dev/null', ports: {} };
}

test('what an interrupted run left behind is stopped; a process that only has the same id is not', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'causeway-leftovers-'));
  const paths = runPaths(folder);
  const [ours, other] = [spawn('sleep', ['600'], { detached: true }), spawn('sleep', ['600'])];
  const [mine, theirs] = [identify(ours.pid ?? 0), identify(other.pid ?? 0)];
  if (mine === undefined || theirs === undefined) throw new Error('the processes did not start');
  writeRunState(paths, state([entry('decode', mine), entry('reused', { pid: theirs.pid, start: 'an-earlier-boot:7' })]));
  expect(readRunState(paths)?.services).toHaveLength(2);
  expect(await stopLeftovers(paths)).toEqual(['decode']);
  expect(isAlive(mine)).toBe(false);
  expect(isAlive(theirs)).toBe(true);
  expect(existsSync(paths.state)).toBe(false);
  other.kill('SIGKILL');
  rmSync(folder, { recursive: true });
});

test('a run folder has one owner at a time, and is free when that one lets go', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'causeway-lock-'));
  const paths = runPaths(folder);
  const first = await acquireInstanceLock(paths);
  expect(first).toBeDefined();
  expect(await acquireInstanceLock(paths)).toBeUndefined();
  await first?.[Symbol.asyncDispose]();
  const second = await acquireInstanceLock(paths);
  expect(second).toBeDefined();
  await second?.[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});
