/** Groups of neighbouring layers: what is computed, packed and sent together. */
import { fail } from '@causeway/errors';

/** Layers [firstLayer, firstLayer + layerCount). */
export interface LayerRange {
  firstLayer: number;
  layerCount: number;
}

/**
 * Cuts `layers` layers into `groups` groups, as even as possible. Every process cuts alike.
 * @throws ServiceError `bad_config` when there are not 1 to `layers` groups.
 */
export function layerGroups(layers: number, groups: number): LayerRange[] {
  if (!Number.isSafeInteger(groups) || groups < 1 || groups > layers) {
    fail('invalid_argument', 'bad_config', `${layers} layers can't be cut into ${groups} groups: choose 1 to ${layers}`);
  }
  const start = (group: number): number => Math.floor((group * layers) / groups);
  return Array.from({ length: groups }, (_, group) => ({
    firstLayer: start(group),
    layerCount: start(group + 1) - start(group),
  }));
}
