import { basename } from 'node:path';
import { fail } from '@causeway/errors';
import type { ServedModel } from '@causeway/topology';
import { findModel } from '../paths.ts';
import { findInHubCache } from './hub-cache.ts';
import { type HubRef, parseHubRef } from './hub-ref.ts';
import type { ModelPlaces } from './model-places.ts';
import { findOllamaModel } from './ollama-cache.ts';
import type { Pullable } from './pull.ts';

export type Found =
  | { readonly kind: 'here'; readonly model: ServedModel }
  | { readonly kind: 'pullable'; readonly wanted: Pullable };

/**
 * What a word names: a repository `hf:OWNER/REPO[/FILE]`, a folder in `models/`, a path relative to `base`, a name of the catalogue, a
 * name that Ollama knows; in this order.
 * @throws ServiceError `file_unreadable` that says where was looked
 */
export function locateModel(word: string, base: string, places: ModelPlaces): Found {
  const ref = parseHubRef(word);
  if (ref !== undefined) return locateHub(word, ref, places);
  const path = findModel(word, base);
  if (path !== undefined) return here(basename(path).replace(/\.gguf$/i, ''), path);
  const entry = places.catalogue.find(({ name }) => name === word);
  if (entry !== undefined) {
    const stored = places.store.find(entry.name);
    return stored === undefined ? { kind: 'pullable', wanted: { kind: 'catalogue', entry } } : here(entry.name, stored.path);
  }
  const ollama = findOllamaModel(word, places.ollama);
  if (ollama !== undefined) return here(ollama.name, ollama.path);
  return fail(
    'invalid_argument',
    'file_unreadable',
    `there is no model "${word}": neither a folder in models/ nor a path (looked from ${base}), neither in the catalogue nor known to Ollama here. ` +
      './causeway models lists what there is; hf:OWNER/REPO[/FILE] names one on Hugging Face',
  );
}

function locateHub(word: string, ref: HubRef, { store, hubCache }: ModelPlaces): Found {
  const name = servedName(ref);
  const path = store.find(word)?.path ?? findInHubCache(ref, hubCache)?.path;
  return path === undefined ? { kind: 'pullable', wanted: { kind: 'hub', ref } } : here(name, path);
}

/** `OWNER/REPO`, as vLLM calls it; a single file by its own name, as it would be from a folder. */
function servedName({ owner, repo, file }: HubRef): string {
  return file === undefined ? `${owner}/${repo}` : basename(file).replace(/\.gguf$/i, '');
}

function here(name: string, path: string): Found {
  return { kind: 'here', model: { name, path } };
}
