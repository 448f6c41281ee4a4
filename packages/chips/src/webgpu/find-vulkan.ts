import { existsSync, readdirSync } from 'node:fs';
import { vulkanLibrary } from '@causeway/ort';
import { fetchSwiftShader, swiftShaderHint } from './swiftshader.ts';

/** Where a worker of family `webgpu` finds Vulkan. */
export type VulkanPlace =
  /** The system's loader and drivers: there is a GPU. */
  | { kind: 'system' }
  /** A folder with a loader and a driver, as CAUSEWAY_VULKAN_DIR names it. */
  | { kind: 'folder'; folder: string; fetched?: { ms: number; bytes: number } }
  | { kind: 'none'; why: string };

/** Debian's chromium brings SwiftShader with it. */
const CHROMIUM = '/usr/lib/chromium';
const LOADERS = ['/usr/lib/x86_64-linux-gnu/libvulkan.so.1', '/usr/lib64/libvulkan.so.1', '/usr/lib/libvulkan.so.1'];

/** What of the machine decides; for tests. */
export interface MachineVulkan {
  arch: string;
  /** Names in /dev and /dev/dri. */
  devices: readonly string[];
  exists(path: string): boolean;
}

/**
 * A GPU's driver where there is a GPU and the system's loader; else SwiftShader, from Debian's chromium or from `folder`, where it is
 * fetched to unless it is there.
 */
export async function findVulkan(
  folder: string,
  signal?: AbortSignal,
  machine: MachineVulkan = thisMachine(),
): Promise<VulkanPlace> {
  if (machine.arch !== 'x64') return { kind: 'none', why: `onnxruntime-node has no WebGPU for Linux on ${machine.arch}` };
  const gpu = machine.devices.some((name) => /^(renderD\d+|nvidia\d+)$/.test(name));
  if (gpu && LOADERS.some((path) => machine.exists(path))) return { kind: 'system' };
  for (const place of [folder, CHROMIUM]) {
    if (machine.exists(place) && vulkanLibrary(place) !== undefined) return { kind: 'folder', folder: place };
  }
  try {
    return { kind: 'folder', folder, fetched: await fetchSwiftShader(folder, signal) };
  } catch (error) {
    return {
      kind: 'none',
      why: `${(error as Error).message}${gpu ? '; for the GPU install libvulkan1' : ''}. ${swiftShaderHint}`,
    };
  }
}

function thisMachine(): MachineVulkan {
  const names = (path: string): string[] => (existsSync(path) ? readdirSync(path) : []);
  return { arch: process.arch, devices: [...names('/dev'), ...names('/dev/dri')], exists: existsSync };
}
