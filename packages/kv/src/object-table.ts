/** Object tables: how the KV of a prompt is cut into objects, and in which order they travel. */
import { fail } from '@causeway/errors';
import { type KvDescriptor, layerTokenBytes, pageBytes } from './descriptor.ts';
import type { LayerRange } from './layer-groups.ts';
import type { TokensRange } from './segments.ts';

/** Most objects of one table. */
export const MAX_OBJECTS = 1 << 16;

/** In which order a sender computes the KV of a prompt: chunk after chunk, in each one group of layers after the other. */
export interface ComputeOrder {
  /** Ends of the chunks in tokens, ascending; the last is the prompt's. */
  chunkEnds: readonly number[];
  /** All layers, in order. */
  groups: readonly LayerRange[];
}

/**
 * Cuts tokens [0, tokens) of all layers into objects of whole pages (the last may be short): one page each, or as many as stay
 * within `targetBytes` when pages are smaller than that. With an order of several groups each group of layers has objects of its
 * own, chunk by chunk, so that a sender that computes in this order always has leading objects to send; a block that two chunks
 * share counts to the later one. Where that would be more objects than a table may have, layers stay together.
 */
export function objectTable(descriptor: KvDescriptor, tokens: number, targetBytes: number, order?: ComputeOrder): TokensRange[] {
  if (!Number.isSafeInteger(tokens) || tokens < 1)
    fail('invalid_argument', 'internal', `an object table needs tokens, not ${tokens}`);
  if (order !== undefined && order.groups.length > 1) {
    const table = orderedTable(descriptor, tokens, targetBytes, order);
    if (table.length <= MAX_OBJECTS) return table;
  }
  const all = { firstLayer: 0, layerCount: descriptor.layers.length };
  return tokenObjects(all, 0, tokens, objectTokens(descriptor, targetBytes));
}

/** Tokens of an object of whole pages that stays within `targetBytes`; at least one page. */
export function objectTokens(descriptor: KvDescriptor, targetBytes: number): number {
  return Math.max(1, Math.floor(targetBytes / pageBytes(descriptor))) * descriptor.storage.blockTokens;
}

function orderedTable(descriptor: KvDescriptor, tokens: number, targetBytes: number, order: ComputeOrder): TokensRange[] {
  const { blockTokens, dtype } = descriptor.storage;
  const groups = order.groups.map((group) => {
    const layers = descriptor.layers.slice(group.firstLayer, group.firstLayer + group.layerCount);
    const blockBytes = blockTokens * layers.reduce((sum, layer) => sum + layerTokenBytes(layer, dtype), 0);
    return { group, step: Math.max(1, Math.floor(targetBytes / blockBytes)) * blockTokens };
  });
  const table: TokensRange[] = [];
  let done = 0;
  for (const chunkEnd of order.chunkEnds) {
    const end = chunkEnd >= tokens ? tokens : chunkEnd - (chunkEnd % blockTokens);
    if (end <= done) continue;
    for (const { group, step } of groups) table.push(...tokenObjects(group, done, end, step));
    done = end;
    if (table.length > MAX_OBJECTS) break;
  }
  return table;
}

/** Tokens [from, to) of these layers in objects of `step` tokens. */
function tokenObjects(layers: LayerRange, from: number, to: number, step: number): TokensRange[] {
  const objects: TokensRange[] = [];
  for (let firstToken = from; firstToken < to; firstToken += step) {
    objects.push({ ...layers, firstToken, tokenCount: Math.min(step, to - firstToken) });
  }
  return objects;
}
