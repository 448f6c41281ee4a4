/** Execution providers: built in by name, or plugged in from a vendor's library. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { ServiceError } from '@causeway/errors';
import koffi from 'koffi';
import { api } from './api.ts';
import { check, create, type CString, cString, pointers, readString, takeMessage } from './native-call.ts';

/** Where a session's nodes run; what the provider cannot do falls back to the CPU. */
export interface ProviderChoice {
  /** ONNX Runtime's name, as `Runtime.providers()` gives it (`WebGpuExecutionProvider`), or as the plug-in library says. */
  name: string;
  /** The provider's own options. */
  options?: Readonly<Record<string, string>>;
  /** Path of a plug-in provider's shared library; default a provider inside ONNX Runtime. */
  library?: string;
}

const CPU = 'CPUExecutionProvider';
const CUDA = 'CUDAExecutionProvider';
/** What a provider needs besides itself. */
const NEEDS: Readonly<Record<string, string>> = {
  WebGpuExecutionProvider:
    "a Vulkan driver (of the GPU, or SwiftShader); NVIDIA's, on a machine without a display, loads only with libgl1, libx11-6 and libxext6",
};
/** Providers that are listed by one name and appended by another. */
const APPENDED_AS: Readonly<Record<string, string>> = { WebGpuExecutionProvider: 'WebGPU' };

/** Execution providers in this build of the library. */
export function builtInProviders(): string[] {
  const ort = api();
  const list: unknown[] = [null];
  const count: unknown[] = [0];
  check(ort.GetAvailableProviders(list, count), 'listing providers');
  const names = readPointers(list[0] as bigint, Number(count[0])).map(readString);
  check(ort.ReleaseAvailableProviders(list[0], count[0]), 'listing providers');
  return names;
}

/**
 * Appends a provider to session options.
 * @throws ServiceError `failed_precondition/provider_missing` that says what there is.
 */
export function appendProvider(env: bigint, plugins: PluginLibraries, options: bigint, choice: ProviderChoice): void {
  if (choice.library !== undefined) return appendPlugin(env, plugins, options, { ...choice, library: choice.library });
  const names = builtInProviders();
  if (!names.includes(choice.name)) missingProvider(`this ONNX Runtime has no ${choice.name}`, names);
  if (choice.name === CPU) return;
  const given = optionArrays(choice.options);
  const message =
    choice.name === CUDA
      ? appendCuda(options, given)
      : takeMessage(
          api().SessionOptionsAppendExecutionProvider(
            options,
            APPENDED_AS[choice.name] ?? choice.name,
            given.keys,
            given.values,
            given.texts.length / 2,
          ),
        );
  if (message !== undefined)
    missingProvider(
      `${choice.name} cannot be used${choice.name in NEEDS ? `; it needs ${NEEDS[choice.name]}` : ''}: ${message.trim()}`,
      names.filter((name) => name !== choice.name),
    );
}

/** Libraries of plug-in providers that one environment has registered, by absolute path. */
export class PluginLibraries {
  readonly #env: bigint;
  readonly #registered = new Map<string, string>();

  constructor(env: bigint) {
    this.#env = env;
  }

  /** Registers a library unless it is. @throws ServiceError `provider_missing`. */
  register(path: string): void {
    const absolute = resolve(path);
    if (this.#registered.has(absolute)) return;
    if (!existsSync(absolute)) missingProvider(`there is no provider library ${absolute}`, this.names());
    const name = `plugin-${this.#registered.size}`;
    const message = takeMessage(api().RegisterExecutionProviderLibrary(this.#env, name, absolute));
    if (message !== undefined) missingProvider(`${absolute} is no provider library: ${message}`, this.names());
    this.#registered.set(absolute, name);
  }

  /** Devices of every provider that is known, by provider. */
  devices(): Map<string, bigint[]> {
    const ort = api();
    const list: unknown[] = [null];
    const count: unknown[] = [0];
    check(ort.GetEpDevices(this.#env, list, count), 'listing provider devices');
    // The list belongs to the environment.
    return Map.groupBy(readPointers(list[0] as bigint, Number(count[0])), (device) => ort.EpDevice_EpName(device) as string);
  }

  names(): string[] {
    return [...new Set([...this.devices().keys(), ...builtInProviders()])];
  }

  /** Before the environment is released, after the last session. */
  unregister(): void {
    for (const name of this.#registered.values()) takeMessage(api().UnregisterExecutionProviderLibrary(this.#env, name));
    this.#registered.clear();
  }
}

/** CUDA has calls of its own. Gives ONNX Runtime's message when it fails. */
function appendCuda(sessionOptions: bigint, { keys, values, texts }: OptionArrays): string | undefined {
  const ort = api();
  const cuda = create('making CUDA options', (out) => ort.CreateCUDAProviderOptions(out));
  try {
    return (
      takeMessage(ort.UpdateCUDAProviderOptions(cuda, keys, values, texts.length / 2)) ??
      takeMessage(ort.SessionOptionsAppendExecutionProvider_CUDA_V2(sessionOptions, cuda))
    );
  } finally {
    ort.ReleaseCUDAProviderOptions(cuda);
  }
}

function appendPlugin(
  env: bigint,
  plugins: PluginLibraries,
  sessionOptions: bigint,
  choice: ProviderChoice & { library: string },
): void {
  plugins.register(choice.library);
  const devices = plugins.devices().get(choice.name);
  if (devices === undefined) missingProvider(`${choice.library} brings no device of ${choice.name}`, plugins.names());
  const { keys, values, texts } = optionArrays(choice.options);
  const message = takeMessage(
    api().SessionOptionsAppendExecutionProvider_V2(
      sessionOptions,
      env,
      pointers(devices),
      devices.length,
      keys,
      values,
      texts.length / 2,
    ),
  );
  if (message !== undefined) missingProvider(`${choice.name} of ${choice.library} cannot be used: ${message}`, plugins.names());
}

/** Parallel arrays of C strings, and the strings, which must be referenced as long as C reads the arrays. */
interface OptionArrays {
  keys: BigUint64Array;
  values: BigUint64Array;
  /** Keys, then values. */
  texts: readonly CString[];
}

function optionArrays(options: Readonly<Record<string, string>> = {}): OptionArrays {
  const keys = Object.keys(options).map(cString);
  const values = Object.values(options).map(cString);
  const addresses = (texts: readonly CString[]): BigUint64Array => pointers(texts.map(({ address }) => address));
  return { keys: addresses(keys), values: addresses(values), texts: [...keys, ...values] };
}

function readPointers(address: bigint, count: number): bigint[] {
  return count === 0 ? [] : (koffi.decode(address, koffi.array('void *', count)) as bigint[]);
}

/** @throws ServiceError `failed_precondition/provider_missing` */
export function missingProvider(what: string, available: readonly string[]): never {
  const message = `${what}; available: ${available.join(', ')}`;
  throw new ServiceError(message, { code: 'failed_precondition', reason: 'provider_missing' });
}
