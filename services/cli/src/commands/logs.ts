import { existsSync, readdirSync, statSync } from 'node:fs';
import { fail } from '@causeway/errors';
import { sleep } from '@causeway/lifecycle';
import { logFile, type RunPaths } from '../paths.ts';
import { lastLines } from '../terminal/last-lines.ts';
import { LogTail } from '../terminal/log-tail.ts';
import type { Output } from '../terminal/output.ts';
import { StopSignals, type SignalSource } from '../terminal/stop-signals.ts';

export interface LogsOptions {
  service: string | undefined;
  follow: boolean;
  lines: number;
}

/** Shows the end of one service's log, or of all with the service's name before each line; `follow` goes on until Ctrl-C. */
export async function logs(options: LogsOptions, deps: { paths: RunPaths; out: Output; signals: SignalSource }): Promise<number> {
  const { paths, out } = deps;
  const known = existsSync(paths.logs)
    ? readdirSync(paths.logs)
        .filter((file) => file.endsWith('.log'))
        .map((file) => file.slice(0, -4))
    : [];
  if (known.length === 0)
    fail('not_found', 'not_found', `there are no logs yet in ${paths.logs}: nothing was started in this checkout`);
  if (options.service !== undefined && !known.includes(options.service)) {
    fail('not_found', 'not_found', `there is no log of "${options.service}"; known: ${known.sort().join(', ')}`);
  }
  const names = options.service === undefined ? known.filter((name) => name !== 'up').sort() : [options.service];
  const width = Math.max(...names.map((name) => name.length));
  const prefix = (name: string): string => (options.service === undefined ? `${out.dim(`${name.padEnd(width)} |`)} ` : '');
  const tails = names.map((name) => ({
    name,
    tail: new LogTail(logFile(paths, name), statSync(logFile(paths, name)).size),
    rest: '',
  }));
  for (const name of names) for (const line of lastLines(logFile(paths, name), options.lines)) out.line(prefix(name) + line);
  if (options.follow) {
    using stop = new StopSignals(deps.signals, () => undefined);
    while (!stop.signal.aborted) {
      for (const entry of tails) {
        const lines = (entry.rest + entry.tail.read()).split('\n');
        entry.rest = lines.pop() ?? '';
        for (const line of lines) out.line(prefix(entry.name) + line);
      }
      await sleep(150, stop.signal).catch(() => undefined);
    }
  }
  for (const entry of tails) entry.tail[Symbol.dispose]();
  return 0;
}
