/** The slots of ONNX Runtime's C API that Causeway calls (onnxruntime_c_api.h: the table's order never changes). */
import { fail } from '@causeway/errors';
import koffi from 'koffi';
import { library, type NativeFunction, onnxRuntimePath } from './library.ts';

/** The version that has every slot below. */
const API_VERSION = 22;
const SLOTS = 313;

const OUT = '_Out_ void **out';

const SIGNATURES = {
  GetErrorMessage: [2, 'const char *GetErrorMessage(void *status)'],
  CreateSessionFromArray: [8, `void *CreateSessionFromArray(void *env, void *data, size_t n, void *options, ${OUT})`],
  Run: [
    9,
    'void *OrtRun(void *session, void *options, void *inNames, void *inValues, size_t nIn, void *outNames, size_t nOut, void *outValues)',
  ],
  CreateSessionOptions: [10, `void *CreateSessionOptions(${OUT})`],
  EnableProfiling: [14, 'void *EnableProfiling(void *options, const char *prefix)'],
  EnableMemPattern: [16, 'void *EnableMemPattern(void *options)'],
  DisableMemPattern: [17, 'void *DisableMemPattern(void *options)'],
  SetSessionLogSeverityLevel: [22, 'void *SetSessionLogSeverityLevel(void *options, int severity)'],
  SetSessionGraphOptimizationLevel: [23, 'void *SetSessionGraphOptimizationLevel(void *options, int level)'],
  SetIntraOpNumThreads: [24, 'void *SetIntraOpNumThreads(void *options, int n)'],
  SessionGetInputCount: [30, 'void *SessionGetInputCount(void *session, _Out_ size_t *out)'],
  SessionGetOutputCount: [31, 'void *SessionGetOutputCount(void *session, _Out_ size_t *out)'],
  SessionGetInputTypeInfo: [33, `void *SessionGetInputTypeInfo(void *session, size_t i, ${OUT})`],
  SessionGetOutputTypeInfo: [34, `void *SessionGetOutputTypeInfo(void *session, size_t i, ${OUT})`],
  SessionGetInputName: [36, `void *SessionGetInputName(void *session, size_t i, void *allocator, ${OUT})`],
  SessionGetOutputName: [37, `void *SessionGetOutputName(void *session, size_t i, void *allocator, ${OUT})`],
  CreateRunOptions: [39, `void *CreateRunOptions(${OUT})`],
  RunOptionsSetTerminate: [46, 'void *RunOptionsSetTerminate(void *options)'],
  CreateTensorAsOrtValue: [48, `void *CreateTensorAsOrtValue(void *allocator, int64_t *shape, size_t rank, int type, ${OUT})`],
  CreateTensorWithDataAsOrtValue: [
    49,
    `void *CreateTensorWithDataAsOrtValue(void *info, void *data, size_t bytes, int64_t *shape, size_t rank, int type, ${OUT})`,
  ],
  GetTensorMutableData: [51, `void *GetTensorMutableData(void *value, ${OUT})`],
  CastTypeInfoToTensorInfo: [55, `void *CastTypeInfoToTensorInfo(void *info, ${OUT})`],
  GetTensorElementType: [60, 'void *GetTensorElementType(void *info, _Out_ int *out)'],
  GetDimensionsCount: [61, 'void *GetDimensionsCount(void *info, _Out_ size_t *out)'],
  GetDimensions: [62, 'void *GetDimensions(void *info, void *dims, size_t rank)'],
  GetSymbolicDimensions: [63, 'void *GetSymbolicDimensions(void *info, void *names, size_t rank)'],
  CreateMemoryInfo: [68, `void *CreateMemoryInfo(const char *name, int allocator, int id, int memory, ${OUT})`],
  CreateCpuMemoryInfo: [69, `void *CreateCpuMemoryInfo(int allocator, int memory, ${OUT})`],
  AllocatorFree: [76, 'void *AllocatorFree(void *allocator, void *p)'],
  GetAllocatorWithDefaultOptions: [78, `void *GetAllocatorWithDefaultOptions(${OUT})`],
  ReleaseEnv: [92, 'void ReleaseEnv(void *p)'],
  ReleaseStatus: [93, 'void ReleaseStatus(void *p)'],
  ReleaseMemoryInfo: [94, 'void ReleaseMemoryInfo(void *p)'],
  ReleaseSession: [95, 'void ReleaseSession(void *p)'],
  ReleaseValue: [96, 'void ReleaseValue(void *p)'],
  ReleaseRunOptions: [97, 'void ReleaseRunOptions(void *p)'],
  ReleaseTypeInfo: [98, 'void ReleaseTypeInfo(void *p)'],
  ReleaseSessionOptions: [100, 'void ReleaseSessionOptions(void *p)'],
  CreateEnvWithGlobalThreadPools: [
    119,
    `void *CreateEnvWithGlobalThreadPools(int level, const char *id, void *threading, ${OUT})`,
  ],
  DisablePerSessionThreads: [120, 'void *DisablePerSessionThreads(void *options)'],
  CreateThreadingOptions: [121, `void *CreateThreadingOptions(${OUT})`],
  ReleaseThreadingOptions: [122, 'void ReleaseThreadingOptions(void *p)'],
  GetAvailableProviders: [125, 'void *GetAvailableProviders(_Out_ void **out, _Out_ int *n)'],
  ReleaseAvailableProviders: [126, 'void *ReleaseAvailableProviders(void *p, int n)'],
  AddSessionConfigEntry: [130, 'void *AddSessionConfigEntry(void *options, const char *key, const char *value)'],
  CreateAllocator: [131, `void *CreateAllocator(void *session, void *info, ${OUT})`],
  ReleaseAllocator: [132, 'void ReleaseAllocator(void *p)'],
  SetGlobalIntraOpNumThreads: [147, 'void *SetGlobalIntraOpNumThreads(void *options, int n)'],
  SetGlobalInterOpNumThreads: [148, 'void *SetGlobalInterOpNumThreads(void *options, int n)'],
  SetGlobalSpinControl: [149, 'void *SetGlobalSpinControl(void *options, int allow)'],
  SessionOptionsAppendExecutionProvider_CUDA_V2: [
    204,
    'void *SessionOptionsAppendExecutionProvider_CUDA_V2(void *options, void *cuda)',
  ],
  CreateCUDAProviderOptions: [205, `void *CreateCUDAProviderOptions(${OUT})`],
  UpdateCUDAProviderOptions: [206, 'void *UpdateCUDAProviderOptions(void *cuda, void *keys, void *values, size_t n)'],
  ReleaseCUDAProviderOptions: [208, 'void ReleaseCUDAProviderOptions(void *p)'],
  AddExternalInitializers: [210, 'void *AddExternalInitializers(void *options, void *names, void *values, size_t n)'],
  SessionOptionsAppendExecutionProvider: [
    216,
    'void *SessionOptionsAppendExecutionProvider(void *options, const char *name, void *keys, void *values, size_t n)',
  ],
  RegisterExecutionProviderLibrary: [
    301,
    'void *RegisterExecutionProviderLibrary(void *env, const char *name, const char *path)',
  ],
  UnregisterExecutionProviderLibrary: [302, 'void *UnregisterExecutionProviderLibrary(void *env, const char *name)'],
  GetEpDevices: [303, 'void *GetEpDevices(void *env, _Out_ void **out, _Out_ size_t *n)'],
  SessionOptionsAppendExecutionProvider_V2: [
    304,
    'void *SessionOptionsAppendExecutionProvider_V2(void *options, void *env, void *devices, size_t n, void *keys, void *values, size_t nOptions)',
  ],
  EpDevice_EpName: [312, 'const char *EpDevice_EpName(void *device)'],
} as const;

type Api = Record<keyof typeof SIGNATURES, NativeFunction>;

let slots: readonly bigint[] | undefined;
let table: Api | undefined;

function readSlots(): readonly bigint[] {
  const lib = library(onnxRuntimePath());
  const baseType = koffi.struct({ GetApi: 'void *', GetVersionString: 'void *' });
  const base = koffi.decode(lib.func('void *OrtGetApiBase()')() as bigint, baseType) as { GetApi: bigint };
  const pointer = koffi.call(base.GetApi, koffi.proto('void *OrtGetApi(uint32_t version)'), API_VERSION) as bigint | null;
  if (pointer === null) fail('failed_precondition', 'runtime', `ONNX Runtime has no API version ${API_VERSION}`);
  return koffi.decode(pointer, koffi.array('void *', SLOTS)) as bigint[];
}

/** The function in one slot of the table. @throws ServiceError `unsupported_platform`. */
export function slotFunction(slot: number, signature: string): NativeFunction {
  slots ??= readSlots();
  return koffi.decode(slots[slot] as bigint, koffi.proto(signature)) as NativeFunction;
}

/** The functions that Causeway calls, bound once. @throws ServiceError `unsupported_platform`. */
export function api(): Api {
  table ??= Object.fromEntries(
    Object.entries(SIGNATURES).map(([name, [slot, signature]]) => [name, slotFunction(slot, signature)]),
  ) as Api;
  return table;
}
