import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants, existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fail } from '@causeway/errors';

export interface ChildOptions {
  command: string;
  args: readonly string[];
  env?: Readonly<Record<string, string>>;
  cwd?: string;
}

/** How a process ended. */
export interface ChildExit {
  code: number | null;
  signal: NodeJS.Signals | null;
}

const OUTPUT_LIMIT_LINES = 50_000;
const KILL_AFTER_MS = 10_000;

/**
 * The same command under util-linux's setpriv, where there is one: the kernel then kills it when this process ends, even by KILL,
 * when nobody is left to do it. setpriv replaces itself by the command, so the pid is the command's.
 */
function tied(command: string, args: readonly string[]): [string, string[]] {
  const setpriv = ['/usr/bin/setpriv', '/bin/setpriv'].find((path) => existsSync(path));
  return setpriv === undefined ? [command, [...args]] : [setpriv, ['--pdeathsig', 'KILL', command, ...args]];
}

/** A child process whose output is kept line by line and which never outlives its owner. */
export class Child implements AsyncDisposable {
  readonly #process: ChildProcess;
  readonly #lines: string[] = [];
  readonly #listeners = new Set<() => void>();
  readonly exited: Promise<ChildExit>;
  #exit: ChildExit | undefined;

  constructor(options: ChildOptions) {
    const [command, args] = tied(options.command, options.args);
    this.#process = spawn(command, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      ...(options.env === undefined ? {} : { env: options.env }),
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    });
    const onOwnerExit = (): void => void this.#process.kill('SIGKILL');
    process.once('exit', onOwnerExit);
    this.exited = new Promise((resolve) => {
      const end = (exit: ChildExit): void => {
        if (this.#exit !== undefined) return;
        this.#exit = exit;
        process.off('exit', onOwnerExit);
        this.#changed();
        resolve(exit);
      };
      this.#process.once('error', (error) => {
        this.#lines.push(error.message);
        end({ code: 127, signal: null });
      });
      // 'close', not 'exit': by then all output has been read.
      this.#process.once('close', (code, signal) => end({ code, signal }));
    });
    this.#capture(this.#process.stdout);
    this.#capture(this.#process.stderr);
  }

  get pid(): number {
    return this.#process.pid ?? -1;
  }

  /** Undefined while it runs. */
  get exit(): ChildExit | undefined {
    return this.#exit;
  }

  /** Standard output and error, in order of arrival, without line ends. */
  get lines(): readonly string[] {
    return this.#lines;
  }

  /** Sends a signal; STOP and CONT suspend and resume. False when it has ended. */
  signal(name: 'TERM' | 'INT' | 'KILL' | 'STOP' | 'CONT' | 'HUP'): boolean {
    return this.#exit === undefined && this.#process.kill(`SIG${name}`);
  }

  /** The first line (past or future) that the test accepts. Throws with the last output when the process ends or the time is over. */
  async waitForLine(accept: RegExp | ((line: string) => boolean), timeoutMs = 30_000): Promise<string> {
    const test = accept instanceof RegExp ? (line: string) => accept.test(line) : accept;
    const end = performance.now() + timeoutMs;
    for (let seen = 0; ; ) {
      for (; seen < this.#lines.length; seen++) {
        const line = this.#lines[seen];
        if (line !== undefined && test(line)) return line;
      }
      if (this.#exit !== undefined) throw new Error(`${this.describe()} ended before the line came:\n${this.tail()}`);
      const left = end - performance.now();
      if (left <= 0) throw new Error(`${this.describe()} did not print the line within ${timeoutMs} ms:\n${this.tail()}`);
      await this.#change(left);
    }
  }

  /** Asks it to end (TERM), insists after 10 s (KILL). A stopped process is resumed first. Gives how it ended. */
  async stop(): Promise<ChildExit> {
    if (this.#exit === undefined) {
      this.signal('CONT');
      this.signal('TERM');
      const timer = setTimeout(() => this.signal('KILL'), KILL_AFTER_MS);
      await this.exited;
      clearTimeout(timer);
    }
    return this.exited;
  }

  /** Ends it at once. */
  async kill(): Promise<ChildExit> {
    this.signal('KILL');
    return this.exited;
  }

  /** The last lines of output, for messages. */
  tail(count = 30): string {
    return this.#lines.slice(-count).join('\n');
  }

  describe(): string {
    const state = this.#exit === undefined ? 'running' : `exit ${this.#exit.code ?? this.#exit.signal}`;
    return `${this.#process.spawnargs.slice(0, 3).join(' ')} (pid ${this.pid}, ${state})`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  #changed(): void {
    for (const listener of this.#listeners) listener();
  }

  #change(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#listeners.delete(done);
        resolve();
      };
      const timer = setTimeout(done, timeoutMs);
      this.#listeners.add(done);
    });
  }

  #capture(stream: NodeJS.ReadableStream | null): void {
    if (stream === null) return;
    let rest = '';
    stream.setEncoding('utf8');
    stream.on('data', (chunk: string) => {
      const parts = (rest + chunk).split('\n');
      rest = parts.pop() ?? '';
      this.#lines.push(...parts);
      if (this.#lines.length > OUTPUT_LIMIT_LINES) {
        // The middle of a runaway log is worth less than the memory: keep indices, drop the text.
        this.#lines.fill('', 1000, this.#lines.length - 10_000);
      }
      this.#changed();
    });
    void once(stream, 'end').then(() => {
      if (rest !== '') this.#lines.push(rest);
      this.#changed();
    });
  }
}

/** Finds a server binary in PATH and the sbin folders. Throws ServiceError naming the Debian package when it is missing. */
export function findBinary(name: string, debianPackage: string, path = process.env['PATH'] ?? ''): string {
  const folders = [...path.split(delimiter).filter((folder) => folder !== ''), '/usr/sbin', '/usr/local/sbin', '/sbin'];
  for (const folder of folders) {
    const candidate = join(folder, name);
    try {
      accessSync(candidate, constants.X_OK);
      return candidate;
    } catch {
      // Not here; the next folder.
    }
  }
  return fail('failed_precondition', 'dependency_unavailable', `${name} is not installed: apt-get install ${debianPackage}`);
}
