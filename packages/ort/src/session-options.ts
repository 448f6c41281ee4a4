import { fail } from '@causeway/errors';
import { api } from './api.ts';
import { callAsync, check, cString, create, pointers } from './native-call.ts';
import { appendProvider, type PluginLibraries, type ProviderChoice } from './provider.ts';
import { nativeValue, type Tensor } from './tensor.ts';

/** How a session is made of a graph. */
export interface SessionOptions {
  /**
   * Weights for initialisers that the graph declares external. ONNX Runtime copies or packs every one of them while the session is
   * made and refers to none afterwards: dispose or unmap them then.
   */
  initializers?: ReadonlyMap<string, Tensor>;
  /** Execution provider, or only its name; default the CPU's. */
  provider?: string | ProviderChoice;
  /** Rewrites of the graph before it runs. Default `all`. */
  optimization?: Optimization;
  /** Weights are packed for speed into a second form (the first is freed). Default true. */
  prepacking?: boolean;
  /** Memory of intermediates is planned per combination of input shapes and kept. Default false: shapes here hardly repeat. */
  memoryPattern?: boolean;
  /** Writes the time of every operator of every run to `<profile>_<date>.json` (Chrome's trace format) when the session ends. */
  profile?: string;
  /** Threads of the session's own; default the Runtime's, shared by all sessions. */
  threads?: SessionThreads;
  /** Entries of ONNX Runtime's session configuration (`session.*`, `optimization.*`, ...). */
  config?: Readonly<Record<string, string>>;
}

/** A session's own thread pool. */
export interface SessionThreads {
  /** Threads of one operator, the calling one included. */
  count: number;
  /** Microseconds that a thread without work spins before it sleeps; 0: it sleeps at once. */
  spinUs: number;
}

const LEVELS = { none: 0, basic: 1, extended: 2, all: 99 } as const;
/** ONNX Runtime's GraphOptimizationLevel. */
export type Optimization = keyof typeof LEVELS;

/** ONNX Runtime's severity from which it logs. */
const LOG_ERRORS = 3;
const SETTING = 'setting session options';

/**
 * Makes an OrtSession off the event loop. The graph is copied.
 * @throws ServiceError `provider_missing`, or `runtime` with ONNX Runtime's message.
 */
export async function createNativeSession(
  env: bigint,
  plugins: PluginLibraries,
  graph: Uint8Array,
  options: SessionOptions,
): Promise<bigint> {
  const ort = api();
  using stack = new DisposableStack();
  const handle = create('making session options', (out) => ort.CreateSessionOptions(out));
  stack.defer(() => ort.ReleaseSessionOptions(handle));
  const ownThreads = options.threads === undefined ? {} : spinning(options.threads);
  if (options.threads === undefined) check(ort.DisablePerSessionThreads(handle), SETTING);
  else check(ort.SetIntraOpNumThreads(handle, options.threads.count), SETTING);
  const level = LEVELS[options.optimization ?? 'all'];
  if (level === undefined) fail('invalid_argument', 'runtime', `optimization is one of ${Object.keys(LEVELS).join(', ')}`);
  check(ort.SetSessionGraphOptimizationLevel(handle, level), SETTING);
  check(options.memoryPattern === true ? ort.EnableMemPattern(handle) : ort.DisableMemPattern(handle), SETTING);
  const config = {
    ...(options.prepacking === false ? { 'session.disable_prepacking': '1' } : {}),
    ...ownThreads,
    ...options.config,
  };
  for (const [key, value] of Object.entries(config)) check(ort.AddSessionConfigEntry(handle, key, value), SETTING);
  if (options.profile !== undefined) check(ort.EnableProfiling(handle, options.profile), SETTING);
  const { provider } = options;
  if (provider !== undefined) {
    // It warns of every session whose shapes are computed on the CPU, which is as it should be.
    check(ort.SetSessionLogSeverityLevel(handle, LOG_ERRORS), SETTING);
    appendProvider(env, plugins, handle, typeof provider === 'string' ? { name: provider } : provider);
  }
  for (const hold of giveInitializers(handle, options.initializers ?? new Map())) stack.use(hold);
  const bytes = new Uint8Array(new ArrayBuffer(Math.max(1, graph.byteLength)), 0, graph.byteLength);
  bytes.set(graph);
  const out: unknown[] = [null];
  check(await callAsync(ort.CreateSessionFromArray, [env, bytes, bytes.byteLength, handle, out]), 'making a session');
  return out[0] as bigint;
}

function spinning({ count, spinUs }: SessionThreads): Record<string, string> {
  if (!Number.isInteger(count) || count < 1 || !Number.isInteger(spinUs) || spinUs < 0) {
    fail(
      'invalid_argument',
      'bad_config',
      `a session's threads are at least one and spin for 0 µs or more; not ${count} for ${spinUs} µs`,
    );
  }
  return {
    'session.intra_op.allow_spinning': spinUs > 0 ? '1' : '0',
    ...(spinUs > 0 ? { 'session.intra_op.spin_duration_us': String(spinUs) } : {}),
  };
}

/** Lists the weights in the options, which copy names and OrtValues; the tensors must be held until the session is made. */
function giveInitializers(handle: bigint, initializers: ReadonlyMap<string, Tensor>): Disposable[] {
  if (initializers.size === 0) return [];
  const names = [...initializers.keys()].map(cString);
  const tensors = [...initializers.values()];
  const values = pointers(tensors.map(nativeValue));
  const addresses = pointers(names.map(({ address }) => address));
  check(api().AddExternalInitializers(handle, addresses, values, tensors.length), 'handing weights over');
  void names;
  return tensors.map((tensor) => tensor.retain());
}
