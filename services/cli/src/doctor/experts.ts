/** Checks of expert shards: every expert on a live shard, as often as it should be, all shards of one checkpoint. */
import { ExpertView, placementCopies, type ShardRecord } from '@causeway/experts/placing';
import { abortable } from '@causeway/lifecycle';
import type { RedisConnection } from '@causeway/registry';
import { checkAddresses } from './deployment.ts';
import { type Finding, ok, problem, warning } from './finding.ts';

/** What is wrong with the shards of these models, and which there are; nothing is said of a model that has none. */
export async function checkExperts(
  redis: RedisConnection,
  models: readonly string[],
  timeoutMs: number,
): Promise<{ findings: Finding[]; shards: ShardRecord[] }> {
  const findings: Finding[] = [];
  const all: ShardRecord[] = [];
  for (const model of models) {
    await using view = new ExpertView({ redis, model });
    await abortable(view.loaded, AbortSignal.timeout(timeoutMs));
    const { placement, shards } = view.snapshot;
    if (shards.size === 0 && placement === undefined) continue;
    findings.push(...modelFindings(model, [...shards.values()], placement));
    findings.push(...(await Promise.all([...shards.values()].map(checkAddresses))).flat());
    all.push(...shards.values());
  }
  return { findings, shards: all };
}

type Placed = ExpertView['snapshot']['placement'];

function modelFindings(model: string, shards: readonly ShardRecord[], placement: Placed): Finding[] {
  const what = `experts of ${model}`;
  if (placement === undefined)
    return [problem(what, `${shards.length} shards, no placement yet`, 'start as many shards as CAUSEWAY_EXPERT_SHARDS says')];
  const strangers = shards.filter(({ fingerprint }) => fingerprint !== placement.fingerprint).map(({ id }) => id);
  const live = shards.filter(({ fingerprint }) => fingerprint === placement.fingerprint);
  const { fewest, mean } = placementCopies(placement, new Set(live.map(({ id }) => id)));
  const wanted = Math.max(1, ...live.map(({ placing }) => placing.copies));
  const found = `${live.length} shards, ${mean.toFixed(2)} copies on average, ${fewest} of the expert with fewest`;
  const copies =
    fewest === 0
      ? problem(what, found, 'start the shard that is missing, or another: requests that need this expert fail')
      : fewest < wanted
        ? warning(what, found, `start more shards: each expert should be on ${wanted}`)
        : ok(what, found);
  const refused = live.flatMap((shard) => (shard.refused === undefined ? [] : [`${shard.id}: ${shard.refused.reason}`]));
  return [
    copies,
    ...(strangers.length === 0
      ? []
      : [
          problem(`${what}, fingerprints`, `${strangers.join(', ')} differ`, 'give all shards the same checkpoint and precision'),
        ]),
    ...(refused.length === 0
      ? []
      : [warning(`${what}, refused`, refused.join('; '), 'give these shards more memory, or start more of them')]),
  ];
}
