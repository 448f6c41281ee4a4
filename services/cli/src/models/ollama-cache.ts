/** Models that Ollama has pulled: manifests (OCI image manifests, version 2) that name GGUF files among its blobs. Only read. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join, relative } from 'node:path';
import { z } from 'zod';

export interface CachedModel {
  /** As it is given to `--model`. */
  readonly name: string;
  readonly path: string;
}

/** What Ollama leaves out of names. */
const USUAL_HOST = 'registry.ollama.ai';
const USUAL_NAMESPACE = 'library';
const WEIGHTS = 'application/vnd.ollama.image.model';
const MOST_MANIFESTS = 10_000;
const MOST_BYTES = 1_048_576;

const manifest = z.object({
  layers: z.array(z.object({ mediaType: z.string(), digest: z.string().regex(/^sha256[:-][0-9a-f]{64}$/) })),
});

/** Every model under the first of the folders that is one of Ollama's; what cannot be read is left out. */
export function ollamaModels(folders: readonly string[]): readonly CachedModel[] {
  const root = folders.find((folder) => existsSync(join(folder, 'manifests')));
  if (root === undefined) return [];
  const top = join(root, 'manifests');
  return manifestFiles(top).flatMap((path) => {
    const parts = relative(top, path).split('/');
    const [host, namespace, model, tag] = parts;
    if (parts.length !== 4 || host === undefined) return [];
    const blob = weightsOf(path, root);
    if (blob === undefined) return [];
    const prefix = host !== USUAL_HOST ? `${host}/${namespace}/` : namespace !== USUAL_NAMESPACE ? `${namespace}/` : '';
    return [{ name: `${prefix}${model}:${tag}`, path: blob }];
  });
}

/** A model by Ollama's name for it; without a tag, `latest`. */
export function findOllamaModel(name: string, folders: readonly string[]): CachedModel | undefined {
  const full = /:[^/]+$/.test(name) ? name : `${name}:latest`;
  return ollamaModels(folders).find((model) => model.name === full);
}

function manifestFiles(top: string): string[] {
  try {
    return readdirSync(top, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && !entry.name.startsWith('.'))
      .slice(0, MOST_MANIFESTS)
      .map((entry) => join(entry.parentPath, entry.name))
      .sort();
  } catch {
    return [];
  }
}

/** The one GGUF file of a model; undefined for those that have none here, or several. */
function weightsOf(path: string, root: string): string | undefined {
  try {
    if (statSync(path).size > MOST_BYTES) return undefined;
    const { layers } = manifest.parse(JSON.parse(readFileSync(path, 'utf8')));
    const [layer, ...others] = layers.filter(({ mediaType }) => mediaType === WEIGHTS);
    if (layer === undefined || others.length > 0) return undefined;
    const blob = join(root, 'blobs', layer.digest.replace(':', '-'));
    return statSync(blob).isFile() ? blob : undefined;
  } catch {
    return undefined;
  }
}
