/** Object tables: how the KV of a prompt is cut into objects, and in which order they travel. */
import { fail } from '@causeway/errors';
import { keepsTokens, type KvDescriptor } from './descriptor.ts';
import { layerWireBytes, wirePageBytes } from './page-size.ts';
import type { KvObject } from './kv-object.ts';
import type { LayerRange } from './layer-groups.ts';

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
 * within `targetBytes` when pages are smaller than that; after the tokens of a span the entries that they complete; windows and
 * states at the end. With an order of several groups each group of layers has objects of its own, chunk by chunk, so that a sender
 * that computes in this order always has leading objects to send; a block that two chunks share counts to the later one. Where that
 * would be more objects than a table may have, layers stay together and spans grow.
 */
export function objectTable(descriptor: KvDescriptor, tokens: number, targetBytes: number, order?: ComputeOrder): KvObject[] {
  if (!Number.isSafeInteger(tokens) || tokens < 1)
    fail('invalid_argument', 'internal', `an object table needs tokens, not ${tokens}`);
  if (order !== undefined && order.groups.length > 1) {
    const groups = order.groups.map((group) => new GroupObjects(descriptor, group, tokens, targetBytes));
    const table = tableOf(groups, order.chunkEnds, tokens, descriptor.storage.blockTokens);
    if (table.length <= MAX_OBJECTS) return table;
  }
  const all = new GroupObjects(descriptor, { firstLayer: 0, layerCount: descriptor.layers.length }, tokens, targetBytes);
  const spans = Math.ceil(tokens / all.step);
  const least = Math.ceil((spans * all.perSpan) / (MAX_OBJECTS - all.finals.length));
  const step = all.step * Math.max(1, least);
  const ends = Array.from({ length: Math.ceil(tokens / step) }, (_, span) => Math.min(tokens, (span + 1) * step));
  return tableOf([all], ends, tokens, step);
}

/** Tokens of an object of whole pages that stays within `targetBytes`; at least one page. */
export function objectTokens(descriptor: KvDescriptor, targetBytes: number): number {
  return Math.max(1, Math.floor(targetBytes / wirePageBytes(descriptor))) * descriptor.storage.blockTokens;
}

/** Spans end with the chunks, but within a prompt at multiples of `align`. */
function tableOf(groups: readonly GroupObjects[], chunkEnds: readonly number[], tokens: number, align: number): KvObject[] {
  const table: KvObject[] = [];
  let done = 0;
  for (const chunkEnd of chunkEnds) {
    const end = chunkEnd >= tokens ? tokens : chunkEnd - (chunkEnd % align);
    if (end <= done) continue;
    for (const group of groups) {
      group.addSpan(table, done, end, align);
      if (end === tokens) table.push(...group.finals);
    }
    done = end;
    if (table.length > MAX_OBJECTS) break;
  }
  return table;
}

/** The objects of a group of layers. */
class GroupObjects {
  /** Tokens of whole pages that stay within the target. */
  readonly step: number;
  /** Windows and states. */
  readonly finals: KvObject[] = [];
  readonly #range: LayerRange;
  readonly #keepsTokens: boolean;
  readonly #entries: { layer: number; ratio: number }[] = [];

  constructor(descriptor: KvDescriptor, range: LayerRange, tokens: number, targetBytes: number) {
    const layers = descriptor.layers.slice(range.firstLayer, range.firstLayer + range.layerCount);
    const { storage } = descriptor;
    const blockBytes = layers.reduce((sum, layer) => sum + layerWireBytes(layer, storage), 0);
    this.#range = range;
    this.#keepsTokens = layers.some(keepsTokens);
    this.step = Math.max(1, Math.floor(targetBytes / Math.max(1, blockBytes))) * storage.blockTokens;
    for (const [i, { window, entries = [], states = [] }] of layers.entries()) {
      const layer = range.firstLayer + i;
      for (const ratio of new Set(entries.map((entry) => entry.ratio))) this.#entries.push({ layer, ratio });
      if (window !== undefined) {
        const tokenCount = Math.min(window, tokens);
        this.finals.push({ kind: 'window', layer, firstToken: tokens - tokenCount, tokenCount });
      }
      for (const { name, shape } of states) this.finals.push({ kind: 'state', layer, name, shape });
    }
  }

  /** Objects of one span, at most. */
  get perSpan(): number {
    return this.#entries.length + (this.#keepsTokens ? 1 : 0);
  }

  /** Adds what tokens [from, to) bring: the tokens in objects of `step` or `least` tokens, and the entries that they complete. */
  addSpan(table: KvObject[], from: number, to: number, least: number): void {
    const step = Math.max(this.step, least);
    for (let firstToken = from; this.#keepsTokens && firstToken < to; firstToken += step) {
      table.push({ kind: 'tokens', ...this.#range, firstToken, tokenCount: Math.min(step, to - firstToken) });
    }
    for (const { layer, ratio } of this.#entries) {
      const firstEntry = Math.floor(from / ratio);
      const entryCount = Math.floor(to / ratio) - firstEntry;
      if (entryCount > 0) table.push({ kind: 'entries', layer, ratio, firstEntry, entryCount });
    }
  }
}
