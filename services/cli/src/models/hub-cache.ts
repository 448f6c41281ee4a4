/**
 * Repositories in the local cache of Hugging Face's own clients: `models--OWNER--REPO/{refs,snapshots,blobs}`
 * (huggingface.co/docs/huggingface_hub/guides/manage-cache). Only read.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { formatHubRef, type HubRef, parseHubRef } from './hub-ref.ts';
import type { CachedModel } from './ollama-cache.ts';

const COMMIT = /^[0-9a-f]{40}$/;

/** Every checkpoint in the cache: repositories with safetensors by their name, GGUF files by repository and file. */
export function hubCacheModels(folder: string): readonly CachedModel[] {
  return list(folder)
    .filter((name) => name.startsWith('models--'))
    .flatMap((name) => {
      const [, owner, repo, ...rest] = name.split('--');
      const ref = refOf(owner, repo);
      if (ref === undefined || rest.length > 0) return [];
      const snapshot = snapshotOf(join(folder, name), undefined);
      if (snapshot === undefined) return [];
      const files = list(snapshot);
      const ggufs = files.filter((file) => file.toLowerCase().endsWith('.gguf'));
      const models = ggufs.map((file) => ({ name: formatHubRef({ ...ref, file }), path: join(snapshot, file) }));
      return isSafetensors(files) ? [{ name: formatHubRef(ref), path: snapshot }, ...models] : models;
    });
}

/** A repository, or a file of one, if the cache has it at that revision. */
export function findInHubCache(ref: HubRef, folder: string): CachedModel | undefined {
  const snapshot = snapshotOf(join(folder, `models--${ref.owner}--${ref.repo}`), ref.revision);
  if (snapshot === undefined) return undefined;
  const name = formatHubRef(ref);
  if (ref.file !== undefined) {
    const path = join(snapshot, ref.file);
    return existsSync(path) ? { name, path } : undefined;
  }
  const files = list(snapshot);
  if (isSafetensors(files)) return { name, path: snapshot };
  const [only, ...others] = files.filter((file) => file.toLowerCase().endsWith('.gguf'));
  return only !== undefined && others.length === 0 ? { name, path: join(snapshot, only) } : undefined;
}

function isSafetensors(files: readonly string[]): boolean {
  return (
    files.includes('config.json') && files.some((file) => file === 'model.safetensors' || file === 'model.safetensors.index.json')
  );
}

function refOf(owner: string | undefined, repo: string | undefined): HubRef | undefined {
  try {
    return parseHubRef(`hf:${owner}/${repo}`);
  } catch {
    return undefined;
  }
}

/** Folder of a revision: a commit, or what `refs/` says a branch is. */
function snapshotOf(repository: string, revision = 'main'): string | undefined {
  const commit = COMMIT.test(revision) ? revision : readRef(join(repository, 'refs', revision));
  const path = commit === undefined ? undefined : join(repository, 'snapshots', commit);
  return path !== undefined && existsSync(path) ? path : undefined;
}

function readRef(path: string): string | undefined {
  try {
    const commit = readFileSync(path, 'utf8').trim();
    return COMMIT.test(commit) ? commit : undefined;
  } catch {
    return undefined;
  }
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch {
    return [];
  }
}
