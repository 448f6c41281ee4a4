import { type LayerRange, layerGroups } from '@causeway/kv';
import type { LoadedModel } from '@causeway/models';
import type { SlotPacker } from './slot-packer.ts';

/** Layers of a prompt whose KV goes to pages together. */
export interface StoredLayers {
  layers: LayerRange;
  /** Index of the model's segment after which all of it is in the slot. */
  segment: number;
  packer: SlotPacker;
}

/**
 * The groups of layers that prefill stores one after another, each as soon as its last segment has run. `whole` is the packer of all
 * layers, which serves a single group; those of several groups are made here and belong to the caller's stack.
 * @throws ServiceError `bad_config` when the model has fewer layers than groups.
 */
export async function storedLayers(
  o: {
    model: LoadedModel;
    groups: number;
    /** Makes the packer of a group. */
    packer: (layers: LayerRange) => Promise<SlotPacker>;
    whole: SlotPacker;
  },
  resources: AsyncDisposableStack,
): Promise<StoredLayers[]> {
  const { model, groups, whole } = o;
  const stored: StoredLayers[] = [];
  for (const layers of layerGroups(model.layers.length, groups)) {
    const packer = groups === 1 ? whole : resources.use(await o.packer(layers));
    stored.push({ layers, segment: lastSegment(model, layers), packer });
  }
  return stored;
}

/** The last segment that writes the caches of these layers. */
function lastSegment(model: LoadedModel, { firstLayer, layerCount }: LayerRange): number {
  return model.segments.findLastIndex(({ cacheLayers }) =>
    cacheLayers.some((layer) => layer >= firstLayer && layer < firstLayer + layerCount),
  );
}
