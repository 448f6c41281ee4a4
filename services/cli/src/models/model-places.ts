import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import type { CliConfig } from '../config.ts';
import { REPOSITORY } from '../paths.ts';
import { type CatalogueEntry, readCatalogue } from './catalogue.ts';
import { ModelStore } from './store.ts';

/** Where models are looked for, beside `models/` and paths. */
export interface ModelPlaces {
  readonly store: ModelStore;
  readonly catalogue: readonly CatalogueEntry[];
  /** The cache of Hugging Face's clients. */
  readonly hubCache: string;
  /** Folders that may be Ollama's, the first that is one counts. */
  readonly ollama: readonly string[];
}

type Settings = Pick<CliConfig, 'models' | 'hubHome' | 'hubCache' | 'ollamaModels'>;

export function modelPlaces({ models, hubHome, hubCache, ollamaModels }: Settings): ModelPlaces {
  const home = homedir();
  return {
    store: new ModelStore(models === undefined ? join(REPOSITORY, '.causeway', 'models') : resolve(models)),
    catalogue: readCatalogue(),
    hubCache: hubCache ?? join(hubHome ?? join(home, '.cache', 'huggingface'), 'hub'),
    ollama: ollamaModels === undefined ? [join(home, '.ollama', 'models'), '/usr/share/ollama/.ollama/models'] : [ollamaModels],
  };
}
