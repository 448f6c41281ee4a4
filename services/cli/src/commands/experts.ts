import {
  type ExpertLoads,
  type ExpertSnapshot,
  ExpertView,
  homesOf,
  type Placement,
  readLoads,
  shardLoads,
} from '@causeway/experts/placing';
import { abortable } from '@causeway/lifecycle';
import { connectRedis, type RedisConnection } from '@causeway/registry';
import { isAlive } from '../cluster/process-identity.ts';
import { readRunState } from '../cluster/run-state.ts';
import type { RunPaths } from '../paths.ts';
import type { Output } from '../terminal/output.ts';
import { table } from '../terminal/table.ts';

const READ_MS = 3_000;

/** A model's experts as Redis has them. */
export interface ExpertState {
  redis: RedisConnection;
  view: ExpertView;
  model: string;
  snapshot: ExpertSnapshot;
  loads: ExpertLoads;
}

/**
 * Reads the experts of a model of this checkout's cluster, by default its first, and gives them to `use`.
 * Exit code 3 when no cluster is up, 1 when it has no expert placement; otherwise what `use` gives.
 */
export async function withExperts(
  wanted: string | undefined,
  deps: { paths: RunPaths; out: Output },
  use: (state: ExpertState, placement: Placement) => Promise<number> | number,
): Promise<number> {
  const state = readRunState(deps.paths);
  if (state === undefined || !isAlive(state.supervisor)) {
    deps.out.warn('no cluster of this checkout is up; ./causeway up starts one');
    return 3;
  }
  const names = state.models.map(({ name }) => name);
  const model = wanted ?? names[0] ?? '';
  if (!names.includes(model)) {
    deps.out.warn(`the cluster serves ${names.join(', ')}, not ${model}`);
    return 1;
  }
  await using redis = await connectRedis({ url: state.redisUrl, namespace: state.namespace, deadlineMs: READ_MS });
  await using view = new ExpertView({ redis, model });
  await abortable(view.loaded, AbortSignal.timeout(READ_MS));
  const { snapshot } = view;
  if (snapshot.placement === undefined) {
    const shards = snapshot.shards.size;
    deps.out.warn(
      shards === 0 ? `${model} has no expert shards: workers compute their own` : `${shards} shards, no placement yet`,
    );
    return 1;
  }
  const loads = await readLoads(redis, model);
  return await use({ redis, view, model, snapshot, loads }, snapshot.placement);
}

/** Shows placement and load. */
export async function experts(
  options: { model: string | undefined; json: boolean },
  deps: { paths: RunPaths; out: Output },
): Promise<number> {
  return withExperts(options.model, deps, ({ snapshot, loads }, placement) => {
    if (options.json) {
      const { byShard, maxOverMean } = shardLoads(placement, loads);
      const report = { placement, next: snapshot.next?.epoch ?? null, loads: Object.fromEntries(loads), maxOverMean };
      deps.out.line(JSON.stringify({ ...report, byShard: Object.fromEntries(byShard) }, undefined, 2));
    } else show(snapshot, placement, loads, deps.out);
    return 0;
  });
}

function show(snapshot: ExpertSnapshot, placement: Placement, loads: ExpertLoads, out: Output): void {
  const next = snapshot.next === undefined ? '' : `, ${snapshot.next.epoch} is being loaded`;
  out.line(`${out.bold(placement.model)}, expert placement ${placement.epoch}${next}`);
  out.line();
  for (const line of heatMap(placement, loads)) out.line(line);
  out.line();
  for (const line of shardTable(snapshot, placement, loads)) out.line(line);
}

/** Shades from never called to the hottest of the layer. */
const SHADES = ['·', '░', '▒', '▓', '█'];
const WIDEST = 64;

/**
 * A line of experts per layer, shaded by load, with its busiest shard's load over the mean; wide layers are broken. Where all experts of
 * a line have several homes, or one does, a second line says how many.
 */
export function heatMap(placement: Placement, loads: ExpertLoads): string[] {
  const lines = [
    `layer  experts (${SHADES[0]} never called, ${SHADES.at(-1)} the hottest of the layer; digits: shards that have it)`,
  ];
  for (const [layer, homes] of Object.entries(placement.layers)) {
    const counts = homes.map((_, expert) => loads.get(Number(layer))?.[expert] ?? 0);
    const most = Math.max(...counts);
    const only = { ...placement, layers: { [layer]: homes } };
    const { maxOverMean } = shardLoads(only, loads);
    const shades = counts.map((count) => (most === 0 ? SHADES[0] : SHADES[Math.ceil((count / most) * (SHADES.length - 1))]));
    const copies = homes.map((list) => (list.length > 9 ? '+' : String(list.length)));
    for (let from = 0; from < homes.length; from += WIDEST) {
      const name = from === 0 ? layer.padStart(5) : '     ';
      const tail = from === 0 ? `   max/mean ${maxOverMean.toFixed(2)}` : '';
      lines.push(`${name}  ${shades.slice(from, from + WIDEST).join('')}${tail}`);
      lines.push(`       ${copies.slice(from, from + WIDEST).join('')}`);
    }
  }
  return lines;
}

function shardTable(snapshot: ExpertSnapshot, placement: Placement, loads: ExpertLoads): readonly string[] {
  const { byShard, maxOverMean } = shardLoads(placement, loads);
  const total = [...byShard.values()].reduce((sum, load) => sum + load, 0);
  const rows = placement.shards.map((id) => {
    const shard = snapshot.shards.get(id);
    const load = byShard.get(id) ?? 0;
    const held = Object.entries(placement.layers).reduce(
      (sum, [layer, homes]) => sum + homes.filter((_, expert) => homesOf(placement, Number(layer), expert).includes(id)).length,
      0,
    );
    const state =
      shard === undefined ? 'gone' : shard.draining ? 'draining' : shard.epochs.includes(placement.epoch) ? 'ready' : 'loading';
    return [id, state, String(held), total === 0 ? '-' : `${((100 * load) / total).toFixed(1)} %`, shard?.address ?? ''];
  });
  return [...table(['SHARD', 'STATE', 'EXPERTS', 'LOAD', 'ADDRESS'], rows), `load max/mean ${maxOverMean.toFixed(2)}`];
}
