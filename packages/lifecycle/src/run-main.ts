import { ServiceError } from '@causeway/errors';
import { Lifecycle } from './state.ts';
import { TaskGroup } from './task-group.ts';

/** What `runMain` needs of the process; `main.ts` passes `process` itself. */
export type ProcessHandle = Pick<NodeJS.Process, 'argv' | 'env' | 'stderr' | 'on' | 'off' | 'exit'>;

/** The few calls of a logger that `runMain` makes; pino's shape. */
export interface MainLogger {
  info(fields: object, message: string): void;
  fatal(fields: object, message: string): void;
  flush?: (() => void) | undefined;
}

/** What `main` works with. */
export interface MainContext {
  /** Arguments after the script's name. */
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly lifecycle: Lifecycle;
  /** Background work; a crash in it is logged fatal and ends the process with exit code 1, by a drain. */
  readonly tasks: TaskGroup;
  /** Aborts when the drain time is over: whatever still runs must end now. */
  readonly forceSignal: AbortSignal;
  /** Settings known only once the configuration is read. */
  configure(options: { drainMs?: number; log?: MainLogger }): void;
  /** Logs fatal, drains, exit code 1. */
  crash(error: unknown, where: string): void;
}

const DEFAULT_DRAIN_MS = 10_000;
/** After the drain time, how long `main` may take to unwind before the process exits anyway. */
const UNWIND_MS = 5_000;
const AWAKE_MS = 60_000;

/**
 * Runs a process: called once, in main.ts.
 *   await runMain(process, async (ctx) => { read config; await using ...; ctx.lifecycle.ready(); await ctx.lifecycle.drainRequested(); finish })
 * SIGTERM and SIGINT begin the drain; after `drainMs` forceSignal aborts; a second signal exits at once with 128 + its number.
 * Exit codes: 0 drained, 1 failure, 2 bad configuration (printed on stderr), 128 + n second signal.
 */
export async function runMain(handle: ProcessHandle, main: (ctx: MainContext) => Promise<void>): Promise<void> {
  const lifecycle = new Lifecycle();
  const force = new AbortController();
  let drainMs = DEFAULT_DRAIN_MS;
  let log: MainLogger | undefined;
  let exitCode = 0;
  let exited = false;

  const exit = (code: number): void => {
    if (exited) return;
    exited = true;
    log?.flush?.();
    handle.exit(code);
  };
  const fatal = (error: unknown, where: string): void => {
    exitCode = 1;
    if (log !== undefined) log.fatal({ err: error }, where);
    else handle.stderr.write(`${where}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  };
  const crash = (error: unknown, where: string): void => {
    fatal(error, where);
    lifecycle.drain(where);
  };
  const onSignal = (name: string, number: number) => (): void => {
    if (lifecycle.drain(name)) return;
    exit(128 + number);
  };
  const onUnhandled =
    (where: string) =>
    (error: unknown): void => {
      fatal(error, where);
      exit(1);
    };
  const handlers: [string, (error: unknown) => void][] = [
    ['SIGTERM', onSignal('SIGTERM', 15)],
    ['SIGINT', onSignal('SIGINT', 2)],
    ['unhandledRejection', onUnhandled('unhandled rejection')],
    ['uncaughtException', onUnhandled('uncaught exception')],
  ];
  for (const [event, listener] of handlers) handle.on(event, listener);

  const drainTimers: NodeJS.Timeout[] = [];
  using _listener = lifecycle.onChange((state, reason) => {
    log?.info({ state, reason }, `lifecycle: ${state}`);
    if (state !== 'draining') return;
    // These timers hold the process open: the drain must end by them, not by an empty event loop.
    drainTimers.push(
      setTimeout(() => force.abort(stopping()), drainMs),
      setTimeout(() => {
        fatal(new Error(`still running ${UNWIND_MS} ms after the drain time of ${drainMs} ms`), 'shutdown overran');
        exit(1);
      }, drainMs + UNWIND_MS),
    );
  });

  // Threads and sockets that are only starting hold nothing: without this an empty event loop would end the process with code 13.
  const awake = setInterval(() => undefined, AWAKE_MS);
  const tasks = new TaskGroup({ onCrash: (error, name) => crash(error, `background task ${name} failed`) });
  try {
    await main({
      argv: handle.argv.slice(2),
      env: handle.env,
      lifecycle,
      tasks,
      forceSignal: force.signal,
      configure: (options) => {
        drainMs = options.drainMs ?? drainMs;
        log = options.log ?? log;
      },
      crash,
    });
  } catch (error) {
    if (error instanceof ServiceError && error.reason === 'bad_config') {
      handle.stderr.write(`${error.message}\n`);
      exitCode = 2;
    } else if (error instanceof ServiceError && error === lifecycle.drainSignal.reason) {
      log?.info({}, 'stopped before it was ready');
    } else fatal(error, 'main failed');
  }
  lifecycle.stop('main ended');
  await tasks[Symbol.asyncDispose]();
  clearInterval(awake);
  for (const timer of drainTimers) clearTimeout(timer);
  for (const [event, listener] of handlers) handle.off(event, listener);
  exit(exitCode);
}

function stopping(): ServiceError {
  return new ServiceError('the process is stopping', { code: 'unavailable', reason: 'draining', retry: 'other' });
}
