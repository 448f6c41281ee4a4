/** How a prefill worker says in which order it computes, and what a decode worker makes of it. */
import { chunkEnds, LEAST_CHUNK_TOKENS, usedChunkTokens } from '@causeway/engine';
import { fail } from '@causeway/errors';
import { type ComputeOrder, type KvDescriptor, layerGroups } from '@causeway/kv';
import type { kvV1 } from '@causeway/proto';
import type { WorkerRecord } from '@causeway/registry';
import type { WorkerConfig } from './config.ts';
import type { WorkerRole } from './worker.ts';

/** What a worker registers; nothing when all layers of a chunk are handed over together. */
export function registeredOrder(
  config: Pick<WorkerConfig, 'chunkTokens' | 'layerGroups'>,
  role: WorkerRole,
  maxContext: number,
): Pick<WorkerRecord, 'computeOrder'> {
  if (role !== 'prefill' || config.layerGroups === 1) return {};
  const chunkTokens = usedChunkTokens(config.chunkTokens, maxContext);
  return { computeOrder: { chunkTokens, layerGroups: config.layerGroups } };
}

/**
 * The order in which a prompt of `tokens` tokens will be computed, for the object table.
 * @throws ServiceError `bad_request` naming the field when there are no such chunks or groups.
 */
export function computeOrderFromProto(
  message: kvV1.ComputeOrder | undefined,
  { layers }: Pick<KvDescriptor, 'layers'>,
  tokens: number,
): ComputeOrder | undefined {
  if (message === undefined) return undefined;
  const { chunkTokens, layerGroups: groups } = message;
  if (chunkTokens < LEAST_CHUNK_TOKENS) bad('chunk_tokens', `is ${chunkTokens}; the least is ${LEAST_CHUNK_TOKENS}`);
  if (groups < 1 || groups > layers.length) bad('layer_groups', `is ${groups}; the model has ${layers.length} layers`);
  return { chunkEnds: chunkEnds(tokens, chunkTokens), groups: layerGroups(layers.length, groups) };
}

function bad(field: string, message: string): never {
  return fail('invalid_argument', 'bad_request', `compute_order.${field} ${message}`, { field: `compute_order.${field}` });
}
