/**
 * Invariants
 *  R1  One environment per process: ONNX Runtime shares it, so a second Runtime must agree with the first on its settings.
 *  R2  The environment is released after every session, and every session after its runs.
 */
import { fail } from '@causeway/errors';
import { api } from './api.ts';
import { live } from './diagnostics.ts';
import { trimHeap } from './memory-map.ts';
import { createEnvironment } from './environment.ts';
import { releaseAsync } from './native-call.ts';
import { probePlugin } from './plugin-probe.ts';
import { builtInProviders, PluginLibraries } from './provider.ts';
import { Session } from './session.ts';
import { createNativeSession, type SessionOptions } from './session-options.ts';

/** Settings of the environment, the same for every Runtime of a process (R1). */
export interface RuntimeOptions {
  /** Threads of one operator, the calling one included: the only pool of all sessions. */
  threads: number;
  /** Threads spin while they wait: faster alone, wasteful beside others. Default false. */
  spin?: boolean;
  /** What ONNX Runtime writes to standard error. Default `warning`. */
  logLevel?: LogLevel;
}

const LOG_LEVELS = { verbose: 0, info: 1, warning: 2, error: 3, fatal: 4 } as const;
/** Least severe messages that ONNX Runtime writes. */
export type LogLevel = keyof typeof LOG_LEVELS;

const MAX_THREADS = 1024;

/** Settings of the environment while a Runtime of this thread has it (R1). */
let current: { settings: string; runtimes: number } | undefined;

/** ONNX Runtime's environment: one thread pool for all sessions. */
export class Runtime implements AsyncDisposable {
  readonly #env: bigint;
  readonly #plugins: PluginLibraries;
  readonly #sessions = new Set<Session>();
  readonly #making = new Set<Promise<Session>>();
  #closing: Promise<void> | undefined;

  private constructor(env: bigint) {
    this.#env = env;
    this.#plugins = new PluginLibraries(env);
    live.runtimes++;
  }

  /**
   * Starts ONNX Runtime, or joins the Runtime that this process has.
   * @throws ServiceError `unsupported_platform`, `invalid_argument`, or `failed_precondition` when the other Runtime has other settings.
   */
  static create(options: RuntimeOptions): Runtime {
    const { threads, spin = false, logLevel = 'warning' } = options;
    if (!Number.isInteger(threads) || threads < 1 || threads > MAX_THREADS) {
      fail('invalid_argument', 'bad_config', `threads is a number from 1 to ${MAX_THREADS}, not ${threads}`);
    }
    const severity = LOG_LEVELS[logLevel];
    if (severity === undefined) {
      fail(
        'invalid_argument',
        'bad_config',
        `logLevel is one of ${Object.keys(LOG_LEVELS).join(', ')}, not ${logLevel as string}`,
      );
    }
    const settings = `threads ${threads}, spin ${spin}, log level ${logLevel}`;
    if (current !== undefined && current.settings !== settings) {
      fail('failed_precondition', 'runtime', `ONNX Runtime runs with ${current.settings} in this process, not with ${settings}`);
    }
    const env = createEnvironment(threads, spin, severity);
    current = { settings, runtimes: (current?.runtimes ?? 0) + 1 };
    return new Runtime(env);
  }

  /** Execution providers in this build of the library. */
  providers(): string[] {
    return builtInProviders();
  }

  /**
   * Makes a session off the event loop. `graph` is a serialised ONNX ModelProto, copied before this returns.
   * @throws ServiceError `provider_missing`, or `runtime` with ONNX Runtime's message.
   */
  async createSession(graph: Uint8Array, options: SessionOptions = {}): Promise<Session> {
    if (this.#closing !== undefined) fail('failed_precondition', 'runtime', 'ONNX Runtime was used after it was disposed');
    const making = this.#createSession(graph, options);
    this.#making.add(making);
    try {
      return await making;
    } finally {
      this.#making.delete(making);
    }
  }

  /** Waits for sessions in the making and for runs, ends every session, then the environment (R2). Idempotent. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #createSession(graph: Uint8Array, options: SessionOptions): Promise<Session> {
    const { provider } = options;
    if (typeof provider === 'object' && provider.library !== undefined) await probePlugin(provider.library, this.providers());
    const handle = await createNativeSession(this.#env, this.#plugins, graph, options);
    const session = this.#adopt(handle);
    // Packing leaves freed copies of weights in malloc's heap: over a third of what the process then holds.
    if (options.initializers !== undefined && options.initializers.size > 0) await trimHeap();
    return session;
  }

  #adopt(handle: bigint): Session {
    try {
      const session: Session = new Session(handle, () => void this.#sessions.delete(session));
      this.#sessions.add(session);
      return session;
    } catch (error) {
      api().ReleaseSession(handle);
      throw error;
    }
  }

  async #close(): Promise<void> {
    await Promise.allSettled(this.#making);
    await Promise.all([...this.#sessions].map((session) => session[Symbol.asyncDispose]()));
    this.#plugins.unregister();
    await releaseAsync(api().ReleaseEnv, [this.#env]);
    live.runtimes--;
    if (current !== undefined && --current.runtimes === 0) current = undefined;
  }
}
