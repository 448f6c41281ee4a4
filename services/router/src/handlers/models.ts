import type { RouterParts } from '../router-parts.ts';
import { servedContext } from '../workers/directory.ts';

export interface ServedModel {
  readonly id: string;
  readonly architecture: string;
  readonly contextLength: number;
}

/** Models that can be served now: this router's, when a decode worker serves it. */
export function servedModels(router: Pick<RouterParts, 'model' | 'directory'>): readonly ServedModel[] {
  const workers = router.directory.workers();
  const contextLength = servedContext(workers, router.model);
  if (contextLength === undefined) return [];
  const architecture = workers.find((worker) => worker.model === router.model)?.architecture ?? '';
  return [{ id: router.model, architecture, contextLength }];
}
