import { fail } from '@causeway/errors';
import type { KvDtype, KvStorage } from '@causeway/kv';
import { cpu } from './cpu/cpu.ts';

/** A chip family: how ONNX Runtime reaches it and how it stores KV in its pages. */
export interface ChipFamily {
  name: string;
  /** ONNX Runtime execution provider. */
  provider: string;
  /** Element types its pages can hold, the default first. */
  dtypes: readonly KvDtype[];
  /** Block lengths its pages can have in tokens, the default first. */
  blockTokens: readonly number[];
  layout: KvStorage['layout'];
}

/** Families by name; one folder each. */
const FAMILIES: Readonly<Record<string, ChipFamily>> = { cpu };

/** What a configuration may name. */
export const CHIP_NAMES = Object.keys(FAMILIES) as [string, ...string[]];

/**
 * Finds a family by its name.
 * @throws ServiceError `bad_config` that lists the known families.
 */
export function chipFamily(name: string): ChipFamily {
  const family = FAMILIES[name];
  if (family === undefined) {
    fail('invalid_argument', 'bad_config', `unknown chip family "${name}"; known: ${CHIP_NAMES.join(', ')}`);
  }
  return family;
}

/**
 * KV storage of a worker of this family; omitted choices take the family's default.
 * @throws ServiceError `bad_config` that names what the family can hold.
 */
export function chipStorage(
  family: ChipFamily,
  choice: { dtype?: KvDtype | undefined; blockTokens?: number | undefined },
): KvStorage {
  const dtype = choice.dtype ?? family.dtypes[0];
  if (dtype === undefined || !family.dtypes.includes(dtype)) {
    fail(
      'invalid_argument',
      'bad_config',
      `chip family ${family.name} cannot store KV as ${dtype}; it can: ${family.dtypes.join(', ')}`,
    );
  }
  const blockTokens = choice.blockTokens ?? family.blockTokens[0];
  if (blockTokens === undefined || !family.blockTokens.includes(blockTokens)) {
    fail(
      'invalid_argument',
      'bad_config',
      `chip family ${family.name} has no blocks of ${blockTokens} tokens; it has: ${family.blockTokens.join(', ')}`,
    );
  }
  return { dtype, layout: family.layout, blockTokens, shards: { count: 1, index: 0 } };
}
