/**
 * Where experts go: hot ones get copies, then copies are packed by load. Greedy, as DeepSeek's expert parallelism load balancer
 * describes (github.com/deepseek-ai/EPLB): each further copy to the expert with the most load per copy, then the heaviest copy first
 * to the least loaded shard. Experts of one router group are kept together where that costs little.
 */
import { fail } from '@causeway/errors';
import type { ExpertShape } from '@causeway/models';
import { homesOf, type Placement } from './placement.ts';

export interface PlannedShard {
  id: string;
  /** Experts that its memory holds, over all layers. */
  capacity: number;
}

/** Load of every expert, by layer; a layer or model without any is taken as evenly loaded. */
export type ExpertLoads = ReadonlyMap<number, readonly number[]>;

export interface PlanOptions {
  model: string;
  fingerprint: string;
  shape: Pick<ExpertShape, 'layers' | 'experts' | 'groups'>;
  shards: readonly PlannedShard[];
  loads: ExpertLoads;
  /** Shards that have each expert at least; as many as there are shards at most. */
  minCopies: number;
  /** Further copies in each layer, of its hottest experts. */
  hotCopies: number;
  /** The placement in force: its epoch is followed, and where loads are equal experts stay where they are. */
  current?: Placement | undefined;
  /** Experts stay on the shards of `current` that are still there; only what is missing is added. */
  repair?: boolean;
}

/** A shard may go over its even share of a layer's load by this much to keep an expert, or a group of them, together. */
const TOLERANCE = 0.05;

/**
 * The next placement.
 * @throws ServiceError `no_workers` without shards, `no_capacity` naming what is missing.
 */
export function planPlacement(o: PlanOptions): Placement {
  const { shape, shards } = o;
  if (shards.length === 0) fail('unavailable', 'no_workers', `model ${o.model} has no expert shard`, { retry: 'same' });
  const room = shards.map(({ capacity }) => capacity);
  const layers: Record<string, number[][]> = {};
  let layersLeft = shape.layers.length;
  for (const layer of shape.layers) {
    layers[layer] = planLayer(o, layer, room, layersLeft--);
  }
  return {
    version: 1,
    epoch: (o.current?.epoch ?? 0) + 1,
    model: o.model,
    fingerprint: o.fingerprint,
    shards: shards.map(({ id }) => id),
    layers,
  };
}

function planLayer(o: PlanOptions, layer: number, room: number[], layersLeft: number): number[][] {
  const { shape, shards } = o;
  const loads = layerLoads(o.loads, layer, shape.experts);
  const homes: number[][] = Array.from({ length: shape.experts }, () => []);
  const load = shards.map(() => 0);
  const copies = copiesOf(o, loads);
  // What later layers need at least stays free: an even share of the shard's memory.
  const share = room.map((experts) => Math.max(1, Math.floor(experts / layersLeft)));
  const before = (expert: number): readonly string[] => (o.current === undefined ? [] : homesOf(o.current, layer, expert));

  const place = (expert: number, shard: number): void => {
    homes[expert]?.push(shard);
    load[shard] = (load[shard] ?? 0) + (loads[expert] ?? 0) / (copies[expert] ?? 1);
    room[shard] = (room[shard] ?? 0) - 1;
    share[shard] = (share[shard] ?? 0) - 1;
  };
  if (o.repair === true) {
    for (let expert = 0; expert < shape.experts; expert++) {
      const kept = before(expert).map((id) => shards.findIndex((shard) => shard.id === id));
      for (const shard of kept) if (shard >= 0 && (room[shard] ?? 0) > 0) place(expert, shard);
    }
  }
  const items = copies.flatMap((count, expert) =>
    Array.from({ length: Math.max(0, count - (homes[expert]?.length ?? 0)) }, (_, copy) => ({ expert, copy })),
  );
  // First a home for everyone, then further copies; within these the heaviest first.
  const weight = (expert: number): number => (loads[expert] ?? 0) / (copies[expert] ?? 1);
  const first = (item: { expert: number; copy: number }): number => ((homes[item.expert]?.length ?? 0) + item.copy === 0 ? 0 : 1);
  items.sort((a, b) => first(a) - first(b) || weight(b.expert) - weight(a.expert) || a.expert - b.expert);
  const fair = loads.reduce((sum, value) => sum + value, 0) / shards.length;
  const fewest = Math.ceil(copies.reduce((sum, count) => sum + count, 0) / shards.length);
  for (const { expert } of items) {
    const shard = choose(o, { expert, homes, load, share, room, fewest, before: before(expert), weight: weight(expert), fair });
    if (shard !== undefined) place(expert, shard);
    else if (homes[expert]?.length === 0) refuse(o, layer, expert);
  }
  for (const list of homes) list.sort((a, b) => a - b);
  return homes;
}

function layerLoads(loads: ExpertLoads, layer: number, experts: number): readonly number[] {
  const known = loads.get(layer);
  const total = known?.reduce((sum, value) => sum + value, 0) ?? 0;
  if (known === undefined || total === 0) return Array.from({ length: experts }, () => 1);
  // Nobody is without any load: experts that were never called are spread too.
  return Array.from({ length: experts }, (_, expert) => (known[expert] ?? 0) + total / experts / 100);
}

/** Copies of each expert: `minCopies`, and `hotCopies` more for those with the most load per copy. */
function copiesOf({ shards, minCopies, hotCopies }: PlanOptions, loads: readonly number[]): number[] {
  const least = Math.min(Math.max(1, minCopies), shards.length);
  const copies = loads.map(() => least);
  for (let extra = 0; extra < hotCopies; extra++) {
    let hottest = -1;
    for (const [expert, load] of loads.entries()) {
      if ((copies[expert] ?? 0) >= shards.length) continue;
      if (hottest < 0 || load / (copies[expert] ?? 1) > (loads[hottest] ?? 0) / (copies[hottest] ?? 1)) hottest = expert;
    }
    if (hottest < 0) break;
    copies[hottest] = (copies[hottest] ?? 0) + 1;
  }
  return copies;
}

interface Choice {
  expert: number;
  homes: readonly (readonly number[])[];
  load: readonly number[];
  share: readonly number[];
  room: readonly number[];
  fewest: number;
  before: readonly string[];
  /** Load of this copy, and a shard's even share of the layer's. */
  weight: number;
  fair: number;
}

/** A shard with room that has not got the expert: within its even share one that had it, then one with its group; else the least loaded. */
function choose({ shards, shape }: PlanOptions, c: Choice): number | undefined {
  const held = (shard: number): number => c.homes.reduce((sum, list) => sum + (list.includes(shard) ? 1 : 0), 0);
  const fits = (limit: readonly number[]): number[] =>
    shards.flatMap((_, shard) => ((limit[shard] ?? 0) > 0 && !c.homes[c.expert]?.includes(shard) ? [shard] : []));
  const shared = fits(c.share);
  const candidates = shared.length > 0 ? shared : fits(c.room);
  const even = candidates.filter((shard) => held(shard) < c.fewest);
  const open = even.length > 0 ? even : candidates;
  if (open.length === 0) return undefined;
  const within = open.filter((shard) => (c.load[shard] ?? 0) + c.weight <= c.fair * (1 + TOLERANCE));
  const perGroup = shape.experts / Math.max(1, shape.groups);
  const group = Math.floor(c.expert / perGroup);
  const score = (shard: number): number => {
    const had = c.before.includes(shards[shard]?.id ?? '') ? 1 : 0;
    if (shape.groups <= 1) return had * shape.experts;
    let together = 0;
    for (let expert = group * perGroup; expert < (group + 1) * perGroup; expert++)
      together += c.homes[expert]?.includes(shard) ? 1 : 0;
    return had * shape.experts + together;
  };
  const lighter = (a: number, b: number): number => (c.load[a] ?? 0) - (c.load[b] ?? 0) || a - b;
  if (within.length === 0) return open.sort(lighter)[0];
  return within.sort((a, b) => score(b) - score(a) || lighter(a, b))[0];
}

function refuse({ shape, shards, model }: PlanOptions, layer: number, expert: number): never {
  const need = shape.layers.length * shape.experts;
  const have = shards.map(({ id, capacity }) => `${id} ${capacity}`).join(', ');
  return fail(
    'resource_exhausted',
    'no_capacity',
    `no shard has room for expert ${expert} of layer ${layer}: ${model} has ${need} experts, its shards hold ${have}; ` +
      'add shards or raise CAUSEWAY_EXPERT_MEMORY_BYTES',
  );
}

/** The load of each shard under a placement, copies sharing their expert's evenly; and the largest over the mean. */
export function shardLoads(
  placement: Placement,
  loads: ExpertLoads,
): { byShard: ReadonlyMap<string, number>; maxOverMean: number } {
  const byShard = new Map(placement.shards.map((id) => [id, 0]));
  for (const [layer, experts] of Object.entries(placement.layers)) {
    const known = loads.get(Number(layer));
    for (const [expert, homes] of experts.entries()) {
      for (const shard of homes) {
        const id = placement.shards[shard] ?? '';
        byShard.set(id, (byShard.get(id) ?? 0) + (known?.[expert] ?? 1) / homes.length);
      }
    }
  }
  const total = [...byShard.values()].reduce((sum, value) => sum + value, 0);
  const mean = total / Math.max(1, byShard.size);
  return { byShard, maxOverMean: mean === 0 ? 1 : Math.max(...byShard.values()) / mean };
}
