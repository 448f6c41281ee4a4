/** The slots of ONNX Runtime's C API that Causeway calls (onnxruntime_c_api.h, API version 22: order never changes). */
import { ServiceError } from '@causeway/errors';
import koffi from 'koffi';
import { library, onnxRuntimePath } from './library.ts';

const API_VERSION = 22;
const SLOTS = 304;

const SIGNATURES = {
  GetErrorMessage: [2, 'const char *GetErrorMessage(void *status)'],
  CreateSessionFromArray: [8, 'void *CreateSessionFromArray(void *env, void *data, size_t n, void *options, _Out_ void **out)'],
  Run: [
    9,
    'void *OrtRun(void *session, void *options, void *inNames, void *inValues, size_t nIn, void *outNames, size_t nOut, void *outValues)',
  ],
  CreateSessionOptions: [10, 'void *CreateSessionOptions(_Out_ void **out)'],
  SetSessionGraphOptimizationLevel: [23, 'void *SetSessionGraphOptimizationLevel(void *options, int level)'],
  SessionGetInputCount: [30, 'void *SessionGetInputCount(void *session, _Out_ size_t *out)'],
  SessionGetOutputCount: [31, 'void *SessionGetOutputCount(void *session, _Out_ size_t *out)'],
  SessionGetInputName: [36, 'void *SessionGetInputName(void *session, size_t i, void *allocator, _Out_ void **out)'],
  SessionGetOutputName: [37, 'void *SessionGetOutputName(void *session, size_t i, void *allocator, _Out_ void **out)'],
  CreateRunOptions: [39, 'void *CreateRunOptions(_Out_ void **out)'],
  RunOptionsSetTerminate: [46, 'void *RunOptionsSetTerminate(void *options)'],
  CreateTensorWithDataAsOrtValue: [
    49,
    'void *CreateTensorWithDataAsOrtValue(void *info, void *data, size_t bytes, int64_t *shape, size_t rank, int type, _Out_ void **out)',
  ],
  CreateCpuMemoryInfo: [69, 'void *CreateCpuMemoryInfo(int allocator, int memory, _Out_ void **out)'],
  AllocatorFree: [76, 'void *AllocatorFree(void *allocator, void *p)'],
  GetAllocatorWithDefaultOptions: [78, 'void *GetAllocatorWithDefaultOptions(_Out_ void **out)'],
  ReleaseEnv: [92, 'void ReleaseEnv(void *p)'],
  ReleaseStatus: [93, 'void ReleaseStatus(void *p)'],
  ReleaseSession: [95, 'void ReleaseSession(void *p)'],
  ReleaseValue: [96, 'void ReleaseValue(void *p)'],
  ReleaseRunOptions: [97, 'void ReleaseRunOptions(void *p)'],
  ReleaseSessionOptions: [100, 'void ReleaseSessionOptions(void *p)'],
  CreateEnvWithGlobalThreadPools: [
    119,
    'void *CreateEnvWithGlobalThreadPools(int level, const char *id, void *threading, _Out_ void **out)',
  ],
  DisablePerSessionThreads: [120, 'void *DisablePerSessionThreads(void *options)'],
  CreateThreadingOptions: [121, 'void *CreateThreadingOptions(_Out_ void **out)'],
  ReleaseThreadingOptions: [122, 'void ReleaseThreadingOptions(void *p)'],
  GetAvailableProviders: [125, 'void *GetAvailableProviders(_Out_ void **out, _Out_ int *n)'],
  ReleaseAvailableProviders: [126, 'void *ReleaseAvailableProviders(void *p, int n)'],
  AddSessionConfigEntry: [130, 'void *AddSessionConfigEntry(void *options, const char *key, const char *value)'],
  SetGlobalIntraOpNumThreads: [147, 'void *SetGlobalIntraOpNumThreads(void *options, int n)'],
  SetGlobalInterOpNumThreads: [148, 'void *SetGlobalInterOpNumThreads(void *options, int n)'],
  SetGlobalSpinControl: [149, 'void *SetGlobalSpinControl(void *options, int allow)'],
  AddExternalInitializers: [210, 'void *AddExternalInitializers(void *options, void *names, void *values, size_t n)'],
  SessionOptionsAppendExecutionProvider: [
    216,
    'void *SessionOptionsAppendExecutionProvider(void *options, const char *name, void *keys, void *values, size_t n)',
  ],
} as const;

type NativeFunction = ReturnType<ReturnType<typeof koffi.load>['func']>;
type Api = Record<keyof typeof SIGNATURES, NativeFunction>;

let table: Api | undefined;

/** The function table, read once. @throws ServiceError `unsupported_platform`. */
export function api(): Api {
  if (table !== undefined) return table;
  const lib = library(onnxRuntimePath());
  const baseType = koffi.struct({ GetApi: 'void *', GetVersionString: 'void *' });
  const base = koffi.decode(lib.func('void *OrtGetApiBase()')() as bigint, baseType) as { GetApi: bigint };
  const pointer = koffi.call(base.GetApi, koffi.proto('void *OrtGetApi(uint32_t version)'), API_VERSION) as bigint | null;
  if (pointer === null)
    throw new ServiceError(`ONNX Runtime has no API version ${API_VERSION}`, { code: 'failed_precondition', reason: 'runtime' });
  const slots = koffi.decode(pointer, koffi.array('void *', SLOTS)) as bigint[];
  table = Object.fromEntries(
    Object.entries(SIGNATURES).map(([name, [slot, signature]]) => [
      name,
      koffi.decode(slots[slot] as bigint, koffi.proto(signature)),
    ]),
  ) as Api;
  return table;
}

/** Throws ONNX Runtime's message when a call gave a status. */
export function check(status: unknown, doing: string): void {
  if (status === null || status === undefined || status === 0n) return;
  const message = api().GetErrorMessage(status) as string;
  api().ReleaseStatus(status);
  throw new ServiceError(`${doing}: ${message}`, { code: 'internal', reason: 'runtime' });
}

/** Calls a function whose last argument is an out pointer. */
export function create(doing: string, call: (out: unknown[]) => unknown): bigint {
  const out: unknown[] = [null];
  check(call(out), doing);
  return out[0] as bigint;
}

/** Memory that C may read for as long as the object lives: its own ArrayBuffer never moves. */
export function pointers(values: readonly bigint[]): BigUint64Array {
  const array = new BigUint64Array(new ArrayBuffer(Math.max(1, values.length) * 8 + 64), 0, values.length);
  array.set(values);
  return array;
}

/** A C string with an address. */
export interface CString {
  bytes: Uint8Array;
  address: bigint;
}

export function cString(text: string): CString {
  const encoded = new TextEncoder().encode(text);
  const bytes = new Uint8Array(new ArrayBuffer(encoded.length + 1 + 64));
  bytes.set(encoded);
  return { bytes, address: koffi.address(bytes) as bigint };
}
