/** ONNX Runtime's environment: one thread pool for all sessions of a process. */
import { api } from './api.ts';
import { check, create } from './native-call.ts';

const STARTING = 'starting ONNX Runtime';

/** @param severity of the least severe messages that are written to standard error, 0 to 4 */
export function createEnvironment(threads: number, spin: boolean, severity: number): bigint {
  const ort = api();
  using stack = new DisposableStack();
  const threading = create(STARTING, (out) => ort.CreateThreadingOptions(out));
  stack.defer(() => ort.ReleaseThreadingOptions(threading));
  check(ort.SetGlobalIntraOpNumThreads(threading, threads), STARTING);
  check(ort.SetGlobalInterOpNumThreads(threading, 1), STARTING);
  check(ort.SetGlobalSpinControl(threading, spin ? 1 : 0), STARTING);
  return create(STARTING, (out) => ort.CreateEnvWithGlobalThreadPools(severity, 'causeway', threading, out));
}
