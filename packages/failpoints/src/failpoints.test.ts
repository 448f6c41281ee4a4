import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ServiceError } from '@causeway/errors';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { armFailpoints, FAILPOINTS, failpoint, failpointHits, parseFailpoints } from './index.ts';

let dir = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'causeway-failpoints-'));
});
afterEach(() => {
  armFailpoints('');
  rmSync(dir, { recursive: true });
});

test('an unarmed failpoint does nothing and allocates nothing', async () => {
  expect(failpoint('mid_decode')).toBe(failpoint('sent'));
  await failpoint('mid_decode');
  expect(failpointHits('mid_decode')).toBe(0);
});

test('the n-th hit acts, once', async () => {
  armFailpoints('mid_decode:3=error,mid_decode:5=error');
  const outcomes: string[] = [];
  for (let i = 1; i <= 6; i++)
    outcomes.push(
      await failpoint('mid_decode').then(
        () => 'passed',
        (e: unknown) => (e as ServiceError).code,
      ),
    );
  expect(outcomes).toEqual(['passed', 'passed', 'internal', 'passed', 'internal', 'passed']);
  expect(failpointHits('mid_decode')).toBe(6);
  await failpoint('sent');
});

test('pause shows its hit and goes on when it is released', async () => {
  const acted: unknown[] = [];
  armFailpoints('sent=pause', { dir, onAct: (point, detail) => void acted.push([point.name, detail]) });
  let released = false;
  const paused = failpoint('sent', 'transfer 7').then(() => {
    released = true;
  });
  const hit = join(dir, `sent.${process.pid}.hit`);
  expect(existsSync(hit)).toBe(true);
  await new Promise((resolve) => setImmediate(resolve));
  expect(released).toBe(false);
  writeFileSync(join(dir, 'sent.go'), '');
  await paused;
  expect(acted).toEqual([['sent', 'transfer 7']]);
});

test('kill ends the process with SIGKILL, its hit on disk', async () => {
  const script = `
    import { armFailpoints, failpoint } from '${new URL('./index.ts', import.meta.url).href}';
    armFailpoints('after_frame_k:2=kill', { dir: process.argv[1] });
    for (let i = 1; i < 4; i++) { await failpoint('after_frame_k'); console.log('passed', i); }`;
  const child = spawn(process.execPath, ['--input-type=module-typescript', '-e', script, dir], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString();
  });
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
  expect([code, signal]).toEqual([null, 'SIGKILL']);
  expect(output).toBe('passed 1\n');
  expect(readdirSync(dir)).toEqual([`after_frame_k.${child.pid}.hit`]);
});

test.each([
  'nonsense',
  'sent',
  'sent=',
  'sent=explode',
  'unknown=kill',
  'sent:0=kill',
  'sent:-1=kill',
  'sent:1.5=kill',
  'sent:1=kill;sent=kill',
  '__proto__=kill',
])('spec %j is refused with what is allowed', (spec) => {
  expect(() => parseFailpoints(spec)).toThrow(/NAME\[:HIT\]=ACTION.*mid_decode/s);
});

test('pause without a folder is refused, and arming again replaces', async () => {
  expect(() => armFailpoints('sent=pause')).toThrow(/CAUSEWAY_FAILPOINT_DIR/);
  armFailpoints('sent=error');
  armFailpoints('');
  await failpoint('sent');
});

test('any spec parses or is refused as bad_config', () => {
  fc.assert(
    fc.property(fc.string(), (spec) => {
      try {
        for (const point of parseFailpoints(spec)) expect(FAILPOINTS).toContain(point.name);
      } catch (error) {
        expect((error as ServiceError).reason).toBe('bad_config');
      }
    }),
  );
});
