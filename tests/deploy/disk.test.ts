/** `up` where it can't write: read-only, full, and filled while it runs. File systems of the test's own, so only root runs it. */
import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { ROOT } from './manifests.ts';

const folders: string[] = [];
const mountable = ((): boolean => {
  if (process.getuid?.() !== 0) return false;
  const folder = mkdtempSync(join(tmpdir(), 'causeway-mount-'));
  try {
    execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', folder], { stdio: 'ignore' });
    execFileSync('umount', [folder], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
})();

function mount(options: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'causeway-disk-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', folder]);
  folders.push(folder);
  return folder;
}

afterEach(() => {
  for (const folder of folders.splice(0)) {
    execFileSync('umount', ['--lazy', folder]);
    rmSync(folder, { recursive: true, force: true });
  }
});

function up(
  folder: string,
  args: readonly string[] = [],
): { ended: Promise<number | null>; output: () => string; signal: (name: 'SIGTERM') => void } {
  const child = spawn(process.execPath, [join(ROOT, 'services/cli/src/main.ts'), 'up', '--no-prompt', ...args], {
    env: { ...process.env, CAUSEWAY_RUN_DIR: join(folder, 'run') },
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data: Buffer) => (output += data.toString()));
  return {
    ended: new Promise((done) => child.once('exit', done)),
    output: () => output,
    signal: (name) => void child.kill(name),
  };
}

describe.skipIf(!mountable)('up', () => {
  test.each([[[]], [['--detach']]])('on a read-only disk says so and starts nothing (%j)', async (args) => {
    const run = up(mount('ro,size=64m'), args);
    expect(await run.ended).toBe(2);
    expect(run.output()).toMatch(/cannot be written.*CAUSEWAY_RUN_DIR/);
  });

  test('on a full disk says so and starts nothing', async () => {
    const run = up(mount('size=64k'));
    expect(await run.ended).toBe(2);
    expect(run.output()).toMatch(/free.*CAUSEWAY_RUN_DIR/);
  });

  test('goes on when the disk fills up, and still drains', async () => {
    const folder = mount('size=8m');
    const run = up(folder, ['--topology', join(ROOT, 'topologies/minimal.yaml')]);
    const deadline = Date.now() + 90_000;
    while (!run.output().includes('Ctrl-C') && Date.now() < deadline) await new Promise((done) => setTimeout(done, 100));
    mkdirSync(join(folder, 'full'));
    try {
      for (let index = 0; ; index += 1) writeFileSync(join(folder, 'full', String(index)), Buffer.alloc(65_536));
    } catch (error) {
      expect((error as NodeJS.ErrnoException).code).toBe('ENOSPC');
    }
    run.signal('SIGTERM');
    expect(await run.ended, run.output()).toBe(0);
    expect(run.output()).toMatch(/cannot write .*state\.json: ENOSPC/);
    expect(run.output()).toContain('everything that was started has stopped');
  });
});
