import { join } from 'node:path';
import { findVulkan, type VulkanPlace } from '@causeway/chips';
import { fail } from '@causeway/errors';
import type { Topology } from '@causeway/topology';
import { REPOSITORY } from '../paths.ts';
import type { Output } from '../terminal/output.ts';

const SWIFTSHADER = join(REPOSITORY, '.causeway', 'swiftshader');
const MIB = 1024 * 1024;

/** Vulkan of this machine; SwiftShader is fetched where there is no GPU, which is said. */
export async function vulkanHere(out: Output, signal?: AbortSignal): Promise<VulkanPlace> {
  const place = await findVulkan(SWIFTSHADER, signal);
  if (place.kind === 'folder' && place.fetched !== undefined) {
    const { bytes, ms } = place.fetched;
    out.line(`fetched SwiftShader from Debian's chromium-common (${(bytes / MIB).toFixed(0)} MiB, ${(ms / 1000).toFixed(1)} s)`);
  }
  return place;
}

/** A topology without the optional pools that this machine has no chip for, and what its processes need to find theirs. */
export interface ChipsHere {
  topology: Topology;
  env: Readonly<Record<string, string>>;
  notes: readonly string[];
}

/**
 * What pools of family `webgpu` need on this machine. Without any nothing is looked for.
 * @throws ServiceError `provider_missing` that says what to install, for a pool that is not optional
 */
export async function chipsHere(
  topology: Topology,
  env: Readonly<Record<string, string | undefined>>,
  find: () => Promise<VulkanPlace>,
): Promise<ChipsHere> {
  const pools = topology.pools.filter(
    (pool) => (pool.role === 'prefill' || pool.role === 'decode') && pool.chip === 'webgpu' && pool.emulated !== true,
  );
  if (pools.length === 0 || env['CAUSEWAY_VULKAN_DIR'] !== undefined) return { topology, env: {}, notes: [] };
  const place = await find();
  if (place.kind === 'folder') {
    return {
      topology,
      env: { CAUSEWAY_VULKAN_DIR: place.folder },
      notes: [`no GPU with Vulkan: chip webgpu computes on the CPU, slowly (SwiftShader in ${place.folder})`],
    };
  }
  if (place.kind === 'system') return { topology, env: {}, notes: [] };
  const needed = pools.find((pool) => !('optional' in pool) || pool.optional !== true);
  if (needed !== undefined) {
    const message = `pool ${needed.name} wants chip webgpu, which cannot be had here: ${place.why}`;
    fail('failed_precondition', 'provider_missing', message);
  }
  const left = topology.pools.filter((pool) => !pools.includes(pool));
  return {
    topology: { ...topology, pools: left },
    env: {},
    notes: pools.map(({ name }) => `pool ${name} is left out: chip webgpu cannot be had here (${place.why})`),
  };
}
