/** The architectures that can be loaded. A new one is a folder that exports an `Architecture`, and one line here. */
import { ServiceError } from '@causeway/errors';
import type { Architecture } from './architecture.ts';
import { deepseekV3 } from './deepseek-v3/deepseek-v3.ts';
import { llama } from './llama/llama.ts';

const ARCHITECTURES: readonly Architecture[] = [llama, deepseekV3];

/** Names as in `model_type` of config.json. */
export const KNOWN_ARCHITECTURES: readonly string[] = ARCHITECTURES.map((architecture) => architecture.name);

/** Finds an architecture by name. Throws ServiceError `unknown_architecture`, which lists the known ones. */
export function findArchitecture(name: string): Architecture {
  const found = ARCHITECTURES.find((architecture) => architecture.name === name);
  if (found !== undefined) return found;
  throw new ServiceError(`the architecture ${JSON.stringify(name)} is not known; known are ${KNOWN_ARCHITECTURES.join(', ')}`, {
    code: 'unimplemented',
    reason: 'unknown_architecture',
  });
}
