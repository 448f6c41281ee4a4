import { ServiceError } from '@causeway/errors';
import koffi from 'koffi';
import { api, check, create, type CString, cString } from './api.ts';
import { Binding } from './binding.ts';

/** A loaded graph. Runs are asynchronous: the event loop stays free. */
export class Session implements AsyncDisposable {
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly #handle: bigint;
  readonly #inputNames: ReadonlyMap<string, CString>;
  readonly #outputNames: ReadonlyMap<string, CString>;
  readonly #onClose: () => void;
  readonly #runs = new Set<Promise<void>>();
  #closing: Promise<void> | undefined;

  /** Made by Runtime.createSession only. */
  constructor(handle: bigint, onClose: () => void) {
    this.#handle = handle;
    this.#onClose = onClose;
    this.inputs = names(handle, 'Input');
    this.outputs = names(handle, 'Output');
    this.#inputNames = new Map(this.inputs.map((name) => [name, cString(name)]));
    this.#outputNames = new Map(this.outputs.map((name) => [name, cString(name)]));
  }

  createBinding(): Binding {
    return new Binding(this.#inputNames, this.#outputNames);
  }

  /**
   * Runs the graph over a binding. Aborting `signal` terminates it.
   * @throws ServiceError `cancelled`, or `runtime` with ONNX Runtime's message.
   */
  async run(binding: Binding, options: { signal?: AbortSignal } = {}): Promise<void> {
    if (this.#closing !== undefined)
      throw new ServiceError('a session was used after it was disposed', { code: 'failed_precondition', reason: 'runtime' });
    options.signal?.throwIfAborted();
    const run = this.#run(binding, options.signal);
    this.#runs.add(run);
    try {
      await run;
    } finally {
      this.#runs.delete(run);
    }
  }

  /** Waits for runs under way, then releases the session. Idempotent. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#closing ??= Promise.allSettled(this.#runs).then(() => {
      api().ReleaseSession(this.#handle);
      this.#onClose();
    });
    return this.#closing;
  }

  async #run(binding: Binding, signal: AbortSignal | undefined): Promise<void> {
    const ort = api();
    const options = signal === undefined ? null : create('making run options', (out) => ort.CreateRunOptions(out));
    const terminate = (): void => check(ort.RunOptionsSetTerminate(options), 'terminating a run');
    const arrays = binding.begin();
    try {
      signal?.addEventListener('abort', terminate, { once: true });
      const status = await new Promise<unknown>((resolve, reject) =>
        ort.Run.async(
          this.#handle,
          options,
          arrays.inNames,
          arrays.inValues,
          arrays.inValues.length,
          arrays.outNames,
          arrays.outValues.length,
          arrays.outValues,
          (error: unknown, result: unknown) => (error === null || error === undefined ? resolve(result) : reject(error as Error)),
        ),
      );
      if (signal?.aborted === true && status !== null) {
        ort.ReleaseStatus(status);
        throw new ServiceError('the run was cancelled', { code: 'cancelled', reason: 'cancelled', cause: signal.reason });
      }
      check(status, 'running a graph');
    } finally {
      signal?.removeEventListener('abort', terminate);
      if (options !== null) ort.ReleaseRunOptions(options);
      binding.end();
    }
  }
}

function names(session: bigint, side: 'Input' | 'Output'): string[] {
  const ort = api();
  const allocator = create('getting the allocator', (out) => ort.GetAllocatorWithDefaultOptions(out));
  const count: unknown[] = [0];
  check(ort[`SessionGet${side}Count`](session, count), 'reading a session');
  return Array.from({ length: Number(count[0]) }, (_, i) => {
    const text = create('reading a session', (out) => ort[`SessionGet${side}Name`](session, i, allocator, out));
    const name = koffi.decode(text, 'char', -1) as string;
    check(ort.AllocatorFree(allocator, text), 'reading a session');
    return name;
  });
}
