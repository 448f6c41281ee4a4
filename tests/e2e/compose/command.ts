import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const execute = promisify(execFile);

export interface CommandOptions {
  /** The whole environment; default: this process's. */
  env?: Readonly<Record<string, string | undefined>>;
  cwd?: string;
  timeoutMs?: number;
}

/** Runs a program to its end and gives what it printed. Throws with the end of its output when it fails. */
export async function command(program: string, args: readonly string[], options: CommandOptions = {}): Promise<string> {
  const { timeoutMs = 60_000, ...rest } = options;
  try {
    const { stdout } = await execute(program, [...args], { ...rest, timeout: timeoutMs, maxBuffer: 64 << 20 });
    return stdout.trim();
  } catch (error) {
    const { stdout = '', stderr = '', killed = false } = error as { stdout?: string; stderr?: string; killed?: boolean };
    const said = `${stdout}\n${stderr}`.trim().split('\n').slice(-40).join('\n');
    const what = `${program} ${args.join(' ')}`;
    throw new Error(killed ? `${what} did not end within ${timeoutMs} ms:\n${said}` : `${what} failed:\n${said}`, {
      cause: error,
    });
  }
}
