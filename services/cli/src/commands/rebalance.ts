import { fail } from '@causeway/errors';
import { checkPlacement, type Placement, planPlacement, shardLoads } from '@causeway/experts/placing';
import { sleep } from '@causeway/lifecycle';
import type { RunPaths } from '../paths.ts';
import type { Output } from '../terminal/output.ts';
import { type ExpertState, withExperts } from './experts.ts';

export interface RebalanceOptions {
  model: string | undefined;
  copies: number | undefined;
  hotCopies: number | undefined;
  dryRun: boolean;
  /** Seconds. */
  wait: number;
}

const POLL_MS = 50;

/**
 * Places experts anew by what workers asked of them lately. Shards load before the new placement is in force; requests go on.
 * Exit code 0 when it is in force (or nothing had to change), 1 when shards refused it or somebody else changed it meanwhile.
 */
export async function rebalance(options: RebalanceOptions, deps: { paths: RunPaths; out: Output }): Promise<number> {
  return withExperts(options.model, deps, async (state, placement) => {
    const { out } = deps;
    const next = plan(state, placement, options);
    const before = shardLoads(placement, state.loads).maxOverMean;
    const after = shardLoads(next, state.loads).maxOverMean;
    const moved = movedExperts(placement, next);
    const calls = [...state.loads.values()].flat().reduce((sum, count) => sum + count, 0);
    out.line(
      `load of the busiest shard over the mean: ${before.toFixed(2)} now, ${after.toFixed(2)} after (by ${calls} calls lately)`,
    );
    out.line(
      `busiest shard's work: ${(100 * (1 - after / before)).toFixed(0)} % less; ${moved} experts are loaded somewhere new`,
    );
    if (options.dryRun || (moved === 0 && sameHomes(placement, next))) {
      out.line(options.dryRun ? 'nothing was changed' : 'it is as it should be; nothing to do');
      return 0;
    }
    const seen = await state.view.store.epochs();
    if (seen.current !== placement.epoch || seen.next !== 0 || !(await state.view.store.propose(next, seen))) {
      out.warn('the placement is being changed by somebody else; try again when that is done');
      return 1;
    }
    return follow(state, next, options.wait, out);
  });
}

function plan({ snapshot, loads, model }: ExpertState, placement: Placement, options: RebalanceOptions): Placement {
  const shards = [...snapshot.shards.values()].filter(
    ({ fingerprint, draining }) => fingerprint === placement.fingerprint && !draining,
  );
  const [first] = shards;
  if (first === undefined) return fail('unavailable', 'no_workers', `${model} has no expert shard that takes experts`);
  const layers = Object.keys(placement.layers).map(Number);
  const shape = { layers, experts: placement.layers[layers[0] ?? 0]?.length ?? 0, groups: first.placing.groups };
  const next = planPlacement({
    model,
    fingerprint: placement.fingerprint,
    shape,
    shards: shards.map(({ id, capacity }) => ({ id, capacity })),
    loads,
    minCopies: options.copies ?? first.placing.copies,
    hotCopies: options.hotCopies ?? first.placing.hotCopies,
    current: placement,
  });
  checkPlacement(next, shape, new Set(shards.map(({ id }) => id)));
  return next;
}

const homes = (placement: Placement): Set<string> =>
  new Set(
    Object.entries(placement.layers).flatMap(([layer, experts]) =>
      experts.flatMap((list, expert) => list.map((shard) => `${layer} ${expert} ${placement.shards[shard]}`)),
    ),
  );

function movedExperts(before: Placement, after: Placement): number {
  const had = homes(before);
  return [...homes(after)].filter((home) => !had.has(home)).length;
}

function sameHomes(before: Placement, after: Placement): boolean {
  const [a, b] = [homes(before), homes(after)];
  return a.size === b.size && [...a].every((home) => b.has(home));
}

/** Waits until the shards have loaded and the placement is in force. */
async function follow({ view }: ExpertState, next: Placement, seconds: number, out: Output): Promise<number> {
  const start = performance.now();
  while (performance.now() - start < seconds * 1000) {
    const { current, next: waiting } = await view.store.epochs();
    if (current >= next.epoch) {
      out.line(`placement ${next.epoch} is in force after ${((performance.now() - start) / 1000).toFixed(1)} s`);
      return 0;
    }
    if (waiting !== next.epoch) {
      const refusals = [...view.snapshot.shards.values()].flatMap(({ id, refused }) =>
        refused?.epoch === next.epoch ? [`${id}: ${refused.reason}`] : [],
      );
      out.warn(`placement ${next.epoch} was given up${refusals.length === 0 ? '' : `:\n  ${refusals.join('\n  ')}`}`);
      return 1;
    }
    await sleep(POLL_MS);
  }
  out.warn(`placement ${next.epoch} is still being loaded after ${seconds} s; ./causeway experts shows when it is in force`);
  return 1;
}
