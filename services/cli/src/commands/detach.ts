import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync } from 'node:fs';
import { sleep } from '@causeway/lifecycle';
import { acquireInstanceLock } from '../cluster/instance-lock.ts';
import { requireRoom } from '../cluster/run-folder.ts';
import { readRunState } from '../cluster/run-state.ts';
import { logFile } from '../paths.ts';
import { StopSignals } from '../terminal/stop-signals.ts';
import { LogTail } from '../terminal/log-tail.ts';
import { describeRunning } from '../terminal/up-text.ts';
import type { UpDeps } from './up.ts';

/**
 * `up --detach`: runs `up` in a process of its own, shows what it prints until it is ready, and leaves it running.
 * Exit code 0 once it is ready, otherwise that of the `up` which failed. Ctrl-C meanwhile stops it.
 * @param args arguments of the `up` to run, without `--detach`
 */
export async function upDetached(args: readonly string[], deps: UpDeps): Promise<number> {
  const { paths, out } = deps;
  requireRoom(paths.folder);
  const lock = await acquireInstanceLock(paths);
  if (lock === undefined) {
    out.warn(describeRunning(readRunState(paths)));
    return 1;
  }
  await lock[Symbol.asyncDispose]();
  mkdirSync(paths.logs, { recursive: true });
  const log = logFile(paths, 'up');
  const output = openSync(log, 'w');
  const child = spawn(process.execPath, [...args], { detached: true, stdio: ['ignore', output, output], env: { ...deps.env } });
  closeSync(output);
  const ended = new Promise<number>((resolve) => {
    child.once('error', () => resolve(1));
    child.once('exit', (code) => resolve(code ?? 1));
  });
  let code: number | undefined;
  void ended.then((value) => (code = value));
  using _stop = new StopSignals(deps.signals, () => void child.kill('SIGTERM'));
  using tail = new LogTail(log);
  for (;;) {
    const state = readRunState(paths);
    const ready = state?.phase === 'ready' && state.supervisor.pid === child.pid;
    // Read after the check: what was printed before `ready` is then complete.
    out.write(tail.read());
    if (code !== undefined) {
      out.write(tail.read());
      return code;
    }
    if (ready) break;
    await sleep(50);
  }
  child.unref();
  out.line(`running in the background (pid ${child.pid}); its messages are in ${log}`);
  return 0;
}
