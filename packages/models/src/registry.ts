/** The architectures that can be loaded. A new one is a folder that exports an `Architecture`, and one line here. */
import { ServiceError } from '@causeway/errors';
import type { Checkpoint } from '@causeway/model-files';
import type { Architecture } from './architecture.ts';
import { deepseekV3 } from './deepseek-v3/deepseek-v3.ts';
import { llama } from './llama/llama.ts';
import { qwen2 } from './qwen2/qwen2.ts';
import { qwen3 } from './qwen3/qwen3.ts';
import { qwen3Moe } from './qwen3-moe/qwen3-moe.ts';

const ARCHITECTURES: readonly Architecture[] = [llama, qwen2, qwen3, qwen3Moe, deepseekV3];

/** Names as in `model_type` of config.json. */
export const KNOWN_ARCHITECTURES: readonly string[] = ARCHITECTURES.map((architecture) => architecture.name);

/** Finds a checkpoint's architecture. Throws ServiceError `unknown_architecture`, which lists those known in files of its format. */
export function findArchitecture({ format, architecture: name }: Pick<Checkpoint, 'format' | 'architecture'>): Architecture {
  const names = ({ name: own, aliases = [], gguf }: Architecture): readonly string[] =>
    format === 'gguf' ? (gguf === undefined ? [] : [gguf.architecture]) : [own, ...aliases];
  const found = ARCHITECTURES.find((architecture) => names(architecture).includes(name));
  if (found !== undefined) return found;
  const known = ARCHITECTURES.flatMap(names).join(', ');
  throw new ServiceError(`the architecture ${JSON.stringify(name)} is not known in ${format} files; known are ${known}`, {
    code: 'unimplemented',
    reason: 'unknown_architecture',
  });
}
