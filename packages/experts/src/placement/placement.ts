/** Which shard has which expert: a document with an epoch, the same for all workers and shards of a model. */
import { fail } from '@causeway/errors';
import type { ExpertShape } from '@causeway/models';
import { z } from 'zod';

const index = z.number().int().min(0).max(4095);

const placementSchema = z.object({
  version: z.literal(1),
  epoch: z.number().int().min(1).max(Number.MAX_SAFE_INTEGER),
  model: z.string().min(1).max(256),
  fingerprint: z.string().min(1).max(128),
  /** Ids; the lists below name them by index. */
  shards: z.array(z.string().min(1).max(128)).min(1).max(4096),
  /** By layer: for each expert the shards that have it. */
  layers: z.record(z.string().regex(/^\d{1,4}$/), z.array(z.array(index).max(4096)).max(4096)),
});

export type Placement = Readonly<z.infer<typeof placementSchema>>;

/** Largest document that is read, in bytes: 100 layers of 1000 experts. */
export const MAX_PLACEMENT_BYTES = 4 * 1024 * 1024;

/** Reads a document; nothing in it is trusted. Gives the reason when it is none. */
export function parsePlacement(text: string): Placement | string {
  if (text.length > MAX_PLACEMENT_BYTES) return `longer than ${MAX_PLACEMENT_BYTES} bytes`;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return 'not JSON';
  }
  const result = placementSchema.safeParse(value);
  return result.success ? result.data : z.prettifyError(result.error);
}

/**
 * Checks that a placement gives every expert of every layer a home among known shards.
 * @throws ServiceError `bad_config` naming layer, expert and shard.
 */
export function checkPlacement(
  placement: Placement,
  shape: Pick<ExpertShape, 'layers' | 'experts'>,
  known: ReadonlySet<string>,
): void {
  const bad = (what: string): never => fail('failed_precondition', 'bad_config', `placement ${placement.epoch}: ${what}`);
  if (new Set(placement.shards).size !== placement.shards.length) bad('a shard is named twice');
  const stranger = placement.shards.find((id) => !known.has(id));
  if (stranger !== undefined) bad(`there is no shard ${stranger}; there are ${[...known].join(', ') || 'none'}`);
  for (const layer of shape.layers) {
    const experts = placement.layers[layer];
    if (experts?.length !== shape.experts) {
      return bad(`layer ${layer} has ${experts?.length ?? 0} experts; the model has ${shape.experts}`);
    }
    for (const [expert, homes] of experts.entries()) {
      if (homes.length === 0) bad(`expert ${expert} of layer ${layer} has no shard`);
      if (new Set(homes).size !== homes.length) bad(`expert ${expert} of layer ${layer} is twice on a shard`);
      const outside = homes.find((shard) => shard >= placement.shards.length);
      if (outside !== undefined) bad(`expert ${expert} of layer ${layer} is on shard ${outside} of ${placement.shards.length}`);
    }
  }
}

/** Ids of the shards that have an expert; empty when the placement does not know it. */
export function homesOf(placement: Placement, layer: number, expert: number): readonly string[] {
  return (placement.layers[layer]?.[expert] ?? []).map((shard) => placement.shards[shard] ?? '');
}

/** The experts of a shard by layer, ascending; layers of which it has none are left out. */
export function expertsOf(placement: Placement, shard: string): ReadonlyMap<number, readonly number[]> {
  const at = placement.shards.indexOf(shard);
  const own = new Map<number, number[]>();
  if (at < 0) return own;
  for (const [layer, experts] of Object.entries(placement.layers)) {
    const held = experts.flatMap((homes, expert) => (homes.includes(at) ? [expert] : []));
    if (held.length > 0) own.set(Number(layer), held);
  }
  return own;
}

/** How many of these shards have an expert: of that with fewest, and on average over all experts and layers. */
export function placementCopies(placement: Placement, live: ReadonlySet<string>): { fewest: number; mean: number } {
  const alive = placement.shards.map((id) => live.has(id));
  const counts = Object.values(placement.layers).flatMap((experts) =>
    experts.map((homes) => homes.filter((shard) => alive[shard] === true).length),
  );
  if (counts.length === 0) return { fewest: 0, mean: 0 };
  return {
    fewest: counts.reduce((least, copies) => Math.min(least, copies), Number.POSITIVE_INFINITY),
    mean: counts.reduce((sum, copies) => sum + copies, 0) / counts.length,
  };
}
