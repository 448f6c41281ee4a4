import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { eventually, freePort } from '@causeway/testkit';
import { expect, test } from 'vitest';
import { describeHolder, isPortFree, portHolder } from './port-holder.ts';
import { PortReservations } from './port-reservations.ts';
import { identify, isAlive, signalProcess } from './process-identity.ts';

test('a process is itself while it lives, and nobody afterwards', async () => {
  const child = spawn('sleep', ['60'], { detached: true });
  const identity = identify(child.pid ?? 0);
  expect(identity?.pid).toBe(child.pid);
  if (identity === undefined) return;
  expect(isAlive(identity)).toBe(true);
  expect(signalProcess(identity, 'SIGKILL', true)).toBe(true);
  await once(child, 'exit');
  await eventually(() => !isAlive(identity));
  expect(signalProcess(identity, 'SIGKILL', true)).toBe(false);
});

test('a process with the same id and another start is left alone', async () => {
  const child = spawn('sleep', ['60']);
  const identity = identify(child.pid ?? 0);
  expect(signalProcess({ pid: child.pid ?? 0, start: 'another-boot:1' }, 'SIGKILL')).toBe(false);
  expect(identity !== undefined && isAlive(identity)).toBe(true);
  child.kill('SIGKILL');
  await once(child, 'exit');
});

test('a zombie is not alive', async () => {
  // The shell starts `true`, becomes `sleep`, and never collects its dead child.
  const parent = spawn('sh', ['-c', 'true & echo $!; exec sleep 60'], { stdio: ['ignore', 'pipe', 'ignore'] });
  const [data] = (await once(parent.stdout, 'data')) as [Buffer];
  const pid = Number(data.toString());
  await eventually(() => identify(pid) === undefined, { timeoutMs: 5000 });
  parent.kill('SIGKILL');
  await once(parent, 'exit');
});

test('the holder of a port is named with its pid; a free one has none', async () => {
  const server = createServer();
  const port = await freePort();
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  expect(await isPortFree('127.0.0.1', port)).toBe(false);
  expect(portHolder(port)?.pid).toBe(process.pid);
  expect(describeHolder(port)).toMatch(new RegExp(`node.* \\(pid ${process.pid}\\)`));
  await using reservations = new PortReservations();
  const next = await reservations.next('127.0.0.1', port);
  expect(next).toBeGreaterThan(port);
  expect(await reservations.next('127.0.0.1', port)).toBeGreaterThan(next ?? 0);
  server.close();
  await once(server, 'close');
  expect(await isPortFree('127.0.0.1', port)).toBe(true);
  expect(portHolder(port)).toBeUndefined();
});
