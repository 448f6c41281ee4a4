import { accessSync, constants, readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { fail } from '@causeway/errors';
import { openCheckpoint } from '@causeway/model-files';
import {
  defaultTopology,
  defaultTopologyOf,
  modelsOf,
  type ModelTable,
  parseTopology,
  type Pool,
  type ServedModel,
  type Topology,
  withModels,
} from '@causeway/topology';
import { locateModel } from '../models/find-model.ts';
import type { ModelPlaces } from '../models/model-places.ts';
import type { Pullable } from '../models/pull.ts';
import type { StoredModel } from '../models/store.ts';

/** The topology of a file, or the built-in one; its paths of chat templates are absolute. @throws ServiceError `file_unreadable`, `bad_config` */
export function loadTopology(file: string | undefined): Topology {
  if (file === undefined) return defaultTopology();
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    return fail('invalid_argument', 'file_unreadable', `cannot read the topology file ${file}: ${(error as Error).message}`);
  }
  const topology = parseTopology(text, file);
  return { ...topology, pools: topology.pools.map((pool) => withChatTemplate(pool, file)) };
}

/** Where a pool's chat template is, which can be read. */
function withChatTemplate(pool: Pool, file: string): Pool {
  if (pool.role !== 'router' || pool.chatTemplate === undefined) return pool;
  const chatTemplate = resolve(dirname(file), pool.chatTemplate);
  try {
    accessSync(chatTemplate, constants.R_OK);
  } catch (error) {
    fail(
      'invalid_argument',
      'file_unreadable',
      `${file}, pool ${pool.name}: cannot read its chatTemplate: ${(error as Error).message}`,
    );
  }
  return { ...pool, chatTemplate };
}

/** What a cluster runs, and where the models of it are. */
export interface ChosenModels {
  readonly topology: Topology;
  /** By the words that the topology has for them. */
  readonly models: ModelTable;
  /** Things the user should know: models that run without expert shards. */
  readonly notes: readonly string[];
}

/**
 * The models to serve: those of the command line, else what the topology says. Relative paths start at the working directory for the
 * former, at the topology file for the latter. Those that have to be pulled first are.
 * @param words of the command line
 * @throws ServiceError `file_unreadable` that says where was looked, `bad_config` when two models have one name, or what pulling throws
 */
export async function chooseModels(
  words: readonly string[],
  file: string | undefined,
  places: ModelPlaces,
  pull: (wanted: Pullable) => Promise<StoredModel>,
): Promise<ChosenModels> {
  const unique = [...new Set(words)];
  const topology = withModels(loadTopology(file), unique);
  const base = words.length === 0 && file !== undefined ? dirname(resolve(file)) : process.cwd();
  const models = new Map<string, ServedModel>();
  for (const word of modelsOf(topology)) {
    const model = await available(word, base, places, pull);
    const other = [...models.values()].find(({ name, path }) => name === model.name && path !== model.path);
    if (other !== undefined) {
      fail(
        'invalid_argument',
        'bad_config',
        `two models are called ${model.name}: ${other.path} and ${model.path}. Clients could not tell them apart: rename one`,
      );
    }
    models.set(word, model);
  }
  if (file !== undefined || unique.length === 0) return { topology, models, notes: [] };
  return { models, ...(await builtIn(unique, models)) };
}

/** The built-in topology with what these models need of it. */
async function builtIn(words: readonly string[], models: ModelTable): Promise<Pick<ChosenModels, 'topology' | 'notes'>> {
  const dense = new Set<string>();
  for (const word of words) if (!(await hasExperts(models.get(word)?.path ?? ''))) dense.add(word);
  return {
    topology: defaultTopologyOf(words, (word) => !dense.has(word)),
    notes: [...dense].map((word) => `${models.get(word)?.name} has no experts: it runs without expert shards`),
  };
}

/** What the checkpoint's headers say. One that can't be read has none here: its processes say what is wrong with it. */
async function hasExperts(path: string): Promise<boolean> {
  try {
    using checkpoint = await openCheckpoint(path);
    return checkpoint.config.moe !== undefined;
  } catch {
    return false;
  }
}

async function available(
  word: string,
  base: string,
  places: ModelPlaces,
  pull: (wanted: Pullable) => Promise<StoredModel>,
): Promise<ServedModel> {
  const found = locateModel(word, base, places);
  if (found.kind === 'here') return found.model;
  await pull(found.wanted);
  const pulled = locateModel(word, base, places);
  if (pulled.kind === 'here') return pulled.model;
  return fail('not_found', 'file_unreadable', `${word} was pulled and is gone again`);
}
