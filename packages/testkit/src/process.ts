import { Child, type ChildExit } from './child.ts';
import { eventually } from './eventually.ts';

export interface ProcessOptions {
  /** Script run by this Node: `services/decode/src/main.ts`. */
  script: string;
  args?: readonly string[];
  /** Added to PATH and HOME of this process; nothing else is inherited, so that a test says what it depends on. */
  env?: Readonly<Record<string, string>>;
  cwd?: string;
  /** Arguments of node itself. */
  nodeArgs?: readonly string[];
}

/** A Causeway process under test. */
export interface ServiceProcess extends AsyncDisposable {
  readonly pid: number;
  /** Undefined while it runs. */
  readonly exit: ChildExit | undefined;
  readonly exited: Promise<ChildExit>;
  /** Its log lines that are JSON objects, parsed, oldest first. */
  logs(): LogLine[];
  /** Everything it printed. */
  readonly lines: readonly string[];
  /** The first log line (past or future) that the test accepts. */
  waitForLog(accept: (line: LogLine) => boolean, timeoutMs?: number): Promise<LogLine>;
  waitForLine(accept: RegExp, timeoutMs?: number): Promise<string>;
  /** Waits until `/readyz` of `host:port` answers 200. */
  waitReady(observability: string, timeoutMs?: number): Promise<void>;
  signal(name: 'TERM' | 'INT' | 'KILL' | 'STOP' | 'CONT'): boolean;
  /** TERM, and KILL after 10 s. */
  stop(): Promise<ChildExit>;
  kill(): Promise<ChildExit>;
  tail(count?: number): string;
}

export type LogLine = Readonly<Record<string, unknown>>;

/** Starts a service. Dispose stops it; it never outlives the test process. */
export function startProcess(options: ProcessOptions): ServiceProcess {
  const inherited = Object.fromEntries(
    ['PATH', 'HOME', 'TMPDIR', 'LANG', 'NODE_COMPILE_CACHE'].flatMap((name) =>
      process.env[name] === undefined ? [] : [[name, process.env[name]]],
    ),
  );
  const child = new Child({
    command: process.execPath,
    args: [...(options.nodeArgs ?? []), options.script, ...(options.args ?? [])],
    env: { ...inherited, ...options.env },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  return {
    get pid() {
      return child.pid;
    },
    get exit() {
      return child.exit;
    },
    exited: child.exited,
    get lines() {
      return child.lines;
    },
    logs: () => child.lines.map(parseLog).filter((log) => log !== undefined),
    waitForLog: async (accept, timeoutMs) => {
      const line = await child.waitForLine((text) => {
        const log = parseLog(text);
        return log !== undefined && accept(log);
      }, timeoutMs);
      return parseLog(line) ?? {};
    },
    waitForLine: (accept, timeoutMs) => child.waitForLine(accept, timeoutMs),
    waitReady: async (observability, timeoutMs = 60_000) => {
      await eventually(
        async () => {
          if (child.exit !== undefined) return 'ended';
          const response = await fetch(`http://${observability}/readyz`, { signal: AbortSignal.timeout(2000) });
          if (response.ok) return 'ready';
          throw new Error(await response.text());
        },
        { timeoutMs, intervalMs: 50, what: `${child.describe()} ready` },
      );
      if (child.exit !== undefined) throw new Error(`${child.describe()} ended before it was ready:\n${child.tail()}`);
    },
    signal: (name) => child.signal(name),
    stop: () => child.stop(),
    kill: () => child.kill(),
    tail: (count) => child.tail(count),
    [Symbol.asyncDispose]: () => child[Symbol.asyncDispose](),
  };
}

function parseLog(line: string): LogLine | undefined {
  if (!line.startsWith('{')) return undefined;
  try {
    return JSON.parse(line) as LogLine;
  } catch {
    return undefined;
  }
}
