import { readFileSync } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import { fail } from '@causeway/errors';
import { defaultTopology, parseTopology, type Topology } from '@causeway/topology';
import { findModel } from '../paths.ts';

export interface ModelChoice {
  name: string;
  path: string;
}

/** The topology of a file, or the built-in one. @throws ServiceError `file_unreadable`, `bad_config` */
export function loadTopology(file: string | undefined): Topology {
  if (file === undefined) return defaultTopology();
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    return fail('invalid_argument', 'file_unreadable', `cannot read the topology file ${file}: ${(error as Error).message}`);
  }
  return parseTopology(text, file);
}

/**
 * The model to serve: the option, else what the topology says. Relative paths start at the working directory for the option,
 * at the topology file for what it names.
 * @throws ServiceError `file_unreadable` that says where was looked
 */
export function chooseModel(option: string | undefined, topology: Topology, file: string | undefined): ModelChoice {
  const wanted = option ?? topology.pools.find((pool) => pool.model !== undefined)?.model ?? topology.model;
  const base = option === undefined && file !== undefined ? dirname(resolve(file)) : process.cwd();
  const path = findModel(wanted, base);
  if (path === undefined) {
    fail(
      'invalid_argument',
      'file_unreadable',
      `there is no model "${wanted}": neither a folder in models/ nor a path (looked from ${base})`,
    );
  }
  return { name: basename(path).replace(/\.gguf$/i, ''), path };
}
