/** Vulkan, which the WebGPU provider computes through: its loader and drivers, chosen before the provider is first used. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fail, ServiceError } from '@causeway/errors';
import { libc, library } from './library.ts';

/** Which Vulkan to use. */
export interface VulkanChoice {
  /** A folder with libvulkan.so.1 and the description of a driver, `*_icd.json`; default: the system's. */
  folder?: string | undefined;
}

const LOADER = 'libvulkan.so.1';

let loaded: string | undefined;

/** The loader and the driver files of a folder; undefined when it has not both. */
export function vulkanLibrary(folder: string): { loader: string; drivers: string } | undefined {
  const loader = join(folder, LOADER);
  if (!existsSync(loader)) return undefined;
  const drivers = readdirSync(folder).filter((name) => name.endsWith('_icd.json'));
  return drivers.length === 0 ? undefined : { loader, drivers: drivers.map((name) => join(folder, name)).join(':') };
}

/**
 * Loads Vulkan's loader into this process, once and for ever; a folder's own drivers are then the only ones.
 * @throws ServiceError `failed_precondition/provider_missing` that says what to install, or when another Vulkan is loaded already
 */
export function loadVulkan({ folder }: VulkanChoice): void {
  const wanted = folder ?? 'system';
  if (loaded === wanted) return;
  if (loaded !== undefined) fail('failed_precondition', 'runtime', `Vulkan of ${loaded} is loaded; ${wanted} cannot be as well`);
  if (folder === undefined) load(LOADER, 'install libvulkan1 and the driver of the GPU');
  else {
    const found = vulkanLibrary(folder);
    if (found === undefined) missing(`${folder} has no ${LOADER} with an *_icd.json beside it`);
    // What C code reads of the environment, before the loader does.
    libc().func('int setenv(const char *name, const char *value, int overwrite)')('VK_DRIVER_FILES', found.drivers, 1);
    load(found.loader, 'it may be of another architecture');
  }
  loaded = wanted;
}

function load(path: string, remedy: string): void {
  try {
    library(path);
  } catch (cause) {
    missing(`Vulkan's loader ${path} cannot be loaded (${(cause as Error).message}): ${remedy}`, cause);
  }
}

function missing(message: string, cause?: unknown): never {
  throw new ServiceError(message, { code: 'failed_precondition', reason: 'provider_missing', cause });
}
