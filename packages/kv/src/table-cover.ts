/** Whether an object table holds a prompt's KV whole: nothing twice, nothing left out. */
import { fail } from '@causeway/errors';
import type { KvDescriptor } from './descriptor.ts';
import type { TokensRange } from './segments.ts';

/** How far the tokens of a group of layers are covered. */
interface Group {
  layerCount: number;
  next: number;
}

/**
 * Token objects belong to groups of layers that don't overlap and together are all layers; in each group tokens follow one another
 * from token 0 to the same end.
 * @returns the prompt's tokens
 * @throws ServiceError `malformed_frame` naming the object at fault
 */
export function checkCover(descriptor: KvDescriptor, objects: readonly TokensRange[]): number {
  const groups = new Map<number, Group>();
  for (const [index, object] of objects.entries()) {
    const { firstLayer, layerCount, firstToken, tokenCount } = object;
    const group = groups.get(firstLayer) ?? { layerCount, next: 0 };
    groups.set(firstLayer, group);
    if (group.layerCount !== layerCount) {
      bad(`object ${index} has layers ${range(firstLayer, layerCount)}, another one ${range(firstLayer, group.layerCount)}`);
    }
    if (firstToken !== group.next) bad(`object ${index} begins at token ${firstToken}, not ${group.next}`);
    group.next += tokenCount;
  }
  return checkGroups(descriptor, groups);
}

function checkGroups({ layers }: KvDescriptor, groups: ReadonlyMap<number, Group>): number {
  let nextLayer = 0;
  let tokens: number | undefined;
  for (const [firstLayer, { layerCount, next }] of [...groups].sort(([a], [b]) => a - b)) {
    if (firstLayer < nextLayer) bad(`layers ${firstLayer}..${nextLayer} are in two groups`);
    if (firstLayer > nextLayer) bad(`no object has layers ${nextLayer}..${firstLayer}`);
    nextLayer = firstLayer + layerCount;
    tokens ??= next;
    if (next !== tokens) bad(`layers ${range(firstLayer, layerCount)} end at token ${next}, those before at ${tokens}`);
  }
  if (nextLayer < layers.length) bad(`no object has layers ${nextLayer}..${layers.length}`);
  return tokens ?? 0;
}

function range(first: number, count: number): string {
  return `${first}..${first + count}`;
}

function bad(message: string): never {
  return fail('invalid_argument', 'malformed_frame', `object table: ${message}`);
}
