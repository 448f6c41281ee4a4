import { fail, ServiceError } from '@causeway/errors';
import { api } from './api.ts';
import { beginRun, Binding, type ValueNames, valueNames } from './binding.ts';
import { live } from './diagnostics.ts';
import { callAsync, check, create, releaseAsync, takeMessage } from './native-call.ts';
import { type SessionValue, sessionValues } from './session-values.ts';

/** What one run is given besides its binding. */
export interface RunOptions {
  /** Ends the run between two nodes of the graph. */
  signal?: AbortSignal | undefined;
}

/** The OrtSession, for measurements. */
export let sessionHandle: (session: Session) => bigint;

/** A loaded graph; made by `Runtime.createSession`. Runs are asynchronous: the event loop stays free. */
export class Session implements AsyncDisposable {
  readonly inputs: readonly SessionValue[];
  readonly outputs: readonly SessionValue[];
  readonly #handle: bigint;
  readonly #inputNames: ValueNames;
  readonly #outputNames: ValueNames;
  readonly #bindings = new WeakSet<Binding>();
  readonly #onClosed: () => void;
  readonly #runs = new Set<Promise<void>>();
  #closing: Promise<void> | undefined;

  constructor(handle: bigint, onClosed: () => void) {
    this.#handle = handle;
    this.#onClosed = onClosed;
    this.inputs = sessionValues(handle, 'Input');
    this.outputs = sessionValues(handle, 'Output');
    this.#inputNames = valueNames(this.inputs);
    this.#outputNames = valueNames(this.outputs);
    live.sessions++;
  }

  /** An empty binding for this session's inputs and outputs. It may outlive the session, but not run then. */
  createBinding(): Binding {
    const binding = new Binding(this.#inputNames, this.#outputNames);
    this.#bindings.add(binding);
    return binding;
  }

  /**
   * Runs the graph over a binding, which nothing may change meanwhile. Several runs may be under way, each with its own binding.
   * Aborting the signal ends the run at the next node of the graph; what it wrote until then stays.
   * @throws ServiceError `cancelled`, `failed_precondition/runtime` for misuse, or `internal/runtime` with ONNX Runtime's message.
   */
  async run(binding: Binding, options: RunOptions = {}): Promise<void> {
    this.#check(binding);
    const { signal } = options;
    if (signal?.aborted === true) throw cancelled(signal);
    const run = this.#run(binding, signal);
    this.#runs.add(run);
    try {
      await run;
    } finally {
      this.#runs.delete(run);
    }
  }

  /**
   * Runs the graph on this thread, which waits for it: only for graphs that take less time than to hand them over to another thread.
   * @throws ServiceError as `run` does; it can't be cancelled.
   */
  runHere(binding: Binding): void {
    this.#check(binding);
    using arrays = beginRun(binding);
    check(api().Run(this.#handle, null, ...arrays.args), 'running a graph');
  }

  /** Waits for the runs under way, then releases the session, off the event loop. Idempotent. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await Promise.allSettled(this.#runs);
    await releaseAsync(api().ReleaseSession, [this.#handle]);
    live.sessions--;
    this.#onClosed();
  }

  #check(binding: Binding): void {
    if (this.#closing !== undefined) fail('failed_precondition', 'runtime', 'a session was used after it was disposed');
    if (!this.#bindings.has(binding)) fail('failed_precondition', 'runtime', 'a binding of another session was run');
  }

  async #run(binding: Binding, signal: AbortSignal | undefined): Promise<void> {
    const ort = api();
    using arrays = beginRun(binding);
    using stack = new DisposableStack();
    let options: bigint | null = null;
    if (signal !== undefined) {
      const handle = create('making run options', (out) => ort.CreateRunOptions(out));
      stack.defer(() => ort.ReleaseRunOptions(handle));
      // Sets a flag that the run looks at between nodes; set before the run starts, it ends at once.
      const terminate = (): void => void takeMessage(ort.RunOptionsSetTerminate(handle));
      signal.addEventListener('abort', terminate, { once: true });
      stack.defer(() => signal.removeEventListener('abort', terminate));
      options = handle;
    }
    const status = await callAsync(ort.Run, [this.#handle, options, ...arrays.args], binding);
    if (status !== null && signal?.aborted === true) throw cancelled(signal, takeMessage(status));
    check(status, 'running a graph');
  }

  static {
    sessionHandle = (session) => session.#handle;
  }
}

function cancelled(signal: AbortSignal, message?: string): ServiceError {
  const text = message === undefined ? 'the run was cancelled before it started' : `the run was cancelled: ${message}`;
  return new ServiceError(text, { code: 'cancelled', reason: 'cancelled', cause: signal.reason });
}
