import { fail } from '@causeway/errors';
import type { Topology, WorkerPool } from './schema.ts';

/** A model as a process serves it. */
export interface ServedModel {
  /** What clients call it. */
  readonly name: string;
  /** Where the process finds it. */
  readonly path: string;
}

/** Models by the word that a topology has for them. */
export type ModelTable = ReadonlyMap<string, ServedModel>;

/** The word for what a pool serves. */
export function modelOf(topology: Topology, pool: WorkerPool): string {
  return pool.model ?? topology.model;
}

/** The words for everything that a topology serves, in the order of its pools. */
export function modelsOf(topology: Topology): readonly string[] {
  return [...new Set(topology.pools.flatMap((pool) => (pool.role === 'router' ? [] : [modelOf(topology, pool)])))];
}

/** What a table has for a word. A word that it does not have is a mistake in the program. */
export function servedModel(models: ModelTable, word: string): ServedModel {
  return models.get(word) ?? fail('internal', 'internal', `no model was looked up for ${word}`);
}

/**
 * The topology with these models instead of its own: one takes the place of what it names, with several each worker pool runs once for each.
 * @param words as pools name them
 * @throws ServiceError `bad_config` when the topology says itself which pool serves what, or binds pools to cores
 */
export function withModels(topology: Topology, words: readonly string[]): Topology {
  const [only, ...others] = words;
  if (only === undefined) return topology;
  const replace = <P extends Topology['pools'][number]>(pool: P, word: string): P =>
    pool.role === 'router' ? pool : { ...pool, model: word };
  if (others.length === 0) return { ...topology, model: only, pools: topology.pools.map((pool) => replace(pool, only)) };
  if (modelsOf(topology).length > 1)
    fail(
      'invalid_argument',
      'bad_config',
      'the topology says which pool serves which model; leave --model out, or name one for all',
    );
  const used = new Set(topology.pools.map(({ name }) => name));
  const pools = topology.pools.flatMap((pool): Topology['pools'] => {
    if (pool.role === 'router') return [pool];
    if (pool.cores !== undefined)
      fail(
        'invalid_argument',
        'bad_config',
        `pool ${pool.name} has cores of its own; with several models name a pool for each in the topology`,
      );
    return words.map((word) => ({ ...replace(pool, word), name: unused(`${shortName(word)}-${pool.name}`, used) }));
  });
  return { ...topology, model: only, pools };
}

/** The name, numbered when it is taken; takes it. */
function unused(name: string, used: Set<string>): string {
  let free = name;
  for (let i = 2; used.has(free); i++) free = `${name}-${i}`;
  used.add(free);
  return free;
}

/** The end of a word for a model, in the characters that pool names are made of. */
function shortName(word: string): string {
  const last =
    word
      .replace(/\.gguf$/i, '')
      .split('/')
      .findLast((part) => part !== '') ?? '';
  const plain = last
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .slice(0, 24);
  return plain.replaceAll(/^-+|-+$/g, '') || 'model';
}
