import { fail, ServiceError } from '@causeway/errors';
import koffi from 'koffi';
import { api, check, create, cString, pointers } from './api.ts';
import { Session } from './session.ts';
import type { Tensor } from './tensor.ts';

export interface RuntimeOptions {
  /** Threads of one operator, this process's only pool. */
  threads: number;
  /** Threads spin while they wait: faster alone, wasteful beside others. Default false. */
  spin?: boolean;
}

export interface SessionOptions {
  /** Weights for initialisers that the graph declares external. Copied or packed while the session is made; free them afterwards. */
  initializers?: ReadonlyMap<string, Tensor>;
  /** Execution provider by ONNX Runtime's name; default the CPU's. */
  provider?: string;
}

const WARNING = 2;
const ALL_OPTIMIZATIONS = 99;

/** ONNX Runtime's environment: one thread pool for all sessions. */
export class Runtime implements AsyncDisposable {
  readonly #env: bigint;
  readonly #sessions = new Set<Session>();
  #closing: Promise<void> | undefined;

  private constructor(env: bigint) {
    this.#env = env;
  }

  /** @throws ServiceError `unsupported_platform` or `runtime`. */
  static create(options: RuntimeOptions): Runtime {
    const ort = api();
    const threading = create('making threading options', (out) => ort.CreateThreadingOptions(out));
    try {
      check(ort.SetGlobalIntraOpNumThreads(threading, options.threads), 'setting threads');
      check(ort.SetGlobalInterOpNumThreads(threading, 1), 'setting threads');
      check(ort.SetGlobalSpinControl(threading, options.spin === true ? 1 : 0), 'setting threads');
      return new Runtime(
        create('starting ONNX Runtime', (out) => ort.CreateEnvWithGlobalThreadPools(WARNING, 'causeway', threading, out)),
      );
    } finally {
      ort.ReleaseThreadingOptions(threading);
    }
  }

  /** Execution providers in this build of the library. */
  providers(): string[] {
    const list: unknown[] = [null];
    const count: unknown[] = [0];
    check(api().GetAvailableProviders(list, count), 'listing providers');
    const n = Number(count[0]);
    const names = (koffi.decode(list[0] as bigint, koffi.array('void *', n)) as bigint[]).map(
      (p) => koffi.decode(p, 'char', -1) as string,
    );
    check(api().ReleaseAvailableProviders(list[0], n), 'listing providers');
    return names;
  }

  /** Makes a session off the event loop. @throws ServiceError `provider_missing` or `runtime` with ONNX Runtime's message. */
  async createSession(graph: Uint8Array, options: SessionOptions = {}): Promise<Session> {
    if (this.#closing !== undefined) fail('failed_precondition', 'runtime', 'ONNX Runtime was used after it was disposed');
    const ort = api();
    using stack = new DisposableStack();
    const handle = create('making session options', (out) => ort.CreateSessionOptions(out));
    stack.defer(() => ort.ReleaseSessionOptions(handle));
    check(ort.DisablePerSessionThreads(handle), 'setting session options');
    check(ort.SetSessionGraphOptimizationLevel(handle, ALL_OPTIMIZATIONS), 'setting session options');
    this.#appendProvider(handle, options.provider);
    const entries = [...(options.initializers ?? [])];
    const names = entries.map(([name]) => cString(name));
    for (const [, tensor] of entries) stack.use(tensor.retain());
    const nameArray = pointers(names.map((name) => name.address));
    const valueArray = pointers(entries.map(([, tensor]) => tensor.handle));
    if (entries.length > 0)
      check(ort.AddExternalInitializers(handle, nameArray, valueArray, entries.length), 'handing weights over');
    const bytes = new Uint8Array(new ArrayBuffer(graph.byteLength + 64), 0, graph.byteLength);
    bytes.set(graph);
    const out: unknown[] = [null];
    const status = await new Promise<unknown>((resolve, reject) =>
      ort.CreateSessionFromArray.async(this.#env, bytes, bytes.byteLength, handle, out, (error: unknown, result: unknown) =>
        error === null || error === undefined ? resolve(result) : reject(error as Error),
      ),
    );
    void names;
    check(status, 'making a session');
    const session: Session = new Session(out[0] as bigint, () => void this.#sessions.delete(session));
    this.#sessions.add(session);
    return session;
  }

  /** Ends every session, then the environment. Idempotent. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#closing ??= Promise.all([...this.#sessions].map((session) => session[Symbol.asyncDispose]())).then(() =>
      api().ReleaseEnv(this.#env),
    );
    return this.#closing;
  }

  #appendProvider(options: bigint, provider: string | undefined): void {
    if (provider === undefined || provider === 'CPUExecutionProvider') return;
    const known = this.providers();
    if (!known.includes(provider)) {
      fail('failed_precondition', 'provider_missing', `this ONNX Runtime has no ${provider}; it has ${known.join(', ')}`);
    }
    try {
      check(
        api().SessionOptionsAppendExecutionProvider(options, provider.replace(/ExecutionProvider$/, ''), null, null, 0),
        `starting ${provider}`,
      );
    } catch (error) {
      throw new ServiceError((error as Error).message, { code: 'failed_precondition', reason: 'provider_missing', cause: error });
    }
  }
}
