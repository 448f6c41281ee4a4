import { fail } from '@causeway/errors';
import type { KvDtype, KvLayout, KvStorage, LayerGeometry } from '@causeway/kv';
import { ascend } from './ascend/ascend.ts';
import { cambricon } from './cambricon/cambricon.ts';
import { cpu } from './cpu/cpu.ts';
import { nvidia } from './nvidia/nvidia.ts';
import { webgpu } from './webgpu/webgpu.ts';

/** A chip family: how ONNX Runtime reaches it and how it stores KV in its pages. */
export interface ChipFamily {
  name: string;
  /** ONNX Runtime execution provider. */
  provider: string;
  /** What to install where the provider is missing. */
  install?: string;
  /** Element types its pages can hold, the default first. */
  dtypes: readonly KvDtype[];
  /** Orders of dimensions in its pages, the default first. */
  layouts: readonly KvLayout[];
  /** Block lengths its pages can have in tokens, the default first. */
  blockTokens: readonly number[];
  /** MLA's latent and rotary part lie apart. */
  splitLatent?: boolean;
  /**
   * Called before its provider is first used. Families without it are imitated on the CPU only.
   * @throws ServiceError `provider_missing` that says what to install
   */
  prepare?(settings: ProviderSettings): void;
}

/** What providers need to know of the machine. */
export interface ProviderSettings {
  /** Folder of Vulkan's loader and driver; default the system's. */
  vulkanDir?: string | undefined;
}

/** What a configuration may choose; what is left out is the family's default. */
export interface StorageChoice {
  dtype?: KvDtype | undefined;
  layout?: KvLayout | undefined;
  blockTokens?: number | undefined;
  /** Of the model: latents are stored in the family's own way. */
  layers?: readonly LayerGeometry[] | undefined;
}

/** Families by name; one folder each. */
const FAMILIES: Readonly<Record<string, ChipFamily>> = { cpu, webgpu, nvidia, ascend, cambricon };

/** What a configuration may name. */
export const CHIP_NAMES = Object.keys(FAMILIES) as [string, ...string[]];

/**
 * Finds a family by its name.
 * @throws ServiceError `bad_config` that lists the known families.
 */
export function chipFamily(name: string): ChipFamily {
  const family = FAMILIES[name];
  if (family === undefined) bad(`unknown chip family "${name}"; known: ${CHIP_NAMES.join(', ')}`);
  return family;
}

/**
 * KV storage of a worker of this family; omitted choices take the family's default.
 * @throws ServiceError `bad_config` that names what the family can hold.
 */
export function chipStorage(family: ChipFamily, choice: StorageChoice): KvStorage {
  const dtype = choice.dtype ?? family.dtypes[0];
  if (dtype === undefined || !family.dtypes.includes(dtype)) {
    bad(`chip family ${family.name} cannot store KV as ${dtype}; it can: ${family.dtypes.join(', ')}`);
  }
  const layout = choice.layout ?? family.layouts[0];
  if (layout === undefined || !family.layouts.includes(layout)) {
    bad(`chip family ${family.name} has no layout ${layout}; it has: ${family.layouts.join(', ')}`);
  }
  const blockTokens = choice.blockTokens ?? family.blockTokens[0];
  if (blockTokens === undefined || !family.blockTokens.includes(blockTokens)) {
    bad(`chip family ${family.name} has no blocks of ${blockTokens} tokens; it has: ${family.blockTokens.join(', ')}`);
  }
  const split = family.splitLatent === true && choice.layers?.some((layer) => layer.kind === 'latent') === true;
  return { dtype, layout, blockTokens, shards: { count: 1, index: 0 }, ...(split ? { latent: 'split' } : {}) };
}

/**
 * The provider that a worker of this family computes with, made ready; undefined: the CPU's.
 * @throws ServiceError `provider_missing` that says what to install
 */
export function chipProvider(family: ChipFamily, emulated: boolean, settings: ProviderSettings): string | undefined {
  if (emulated || family.prepare === undefined) return undefined;
  family.prepare(settings);
  return family.provider;
}

/**
 * Whether a worker of this family imitates it on the CPU.
 * @param providers execution providers of this build of ONNX Runtime
 * @throws ServiceError `provider_missing` when the family's provider is not there and imitation was not asked for, or was asked of the CPU
 */
export function chipEmulated(family: ChipFamily, wanted: boolean, providers: readonly string[]): boolean {
  const { name, provider, install } = family;
  if (provider === cpu.provider) {
    if (wanted) bad(`chip family ${name} computes everywhere: there is nothing to emulate`);
    return false;
  }
  if (wanted) return true;
  if (family.prepare !== undefined && providers.includes(provider)) return false;
  const there = providers.includes(provider)
    ? `is there, but the engine computes with ${cpu.provider} and ${webgpu.provider} only so far`
    : `is not in this ONNX Runtime`;
  const remedy = providers.includes(provider) || install === undefined ? '' : `install ${install}, or `;
  return fail(
    'failed_precondition',
    'provider_missing',
    `chip family ${name} computes with ${provider}, which ${there} (it has: ${providers.join(', ')}): ${remedy}set emulated: true in the topology (CAUSEWAY_CHIP_EMULATED=on) to imitate its KV on the CPU`,
  );
}

function bad(message: string): never {
  return fail('invalid_argument', 'bad_config', message);
}
