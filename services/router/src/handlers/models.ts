import type { RouterParts } from '../router-parts.ts';
import { servedContext } from '../workers/directory.ts';

export interface ServedModel {
  readonly id: string;
  readonly architecture: string;
  readonly contextLength: number;
}

/** Models that can be served now: those of the router that a decode worker serves. */
export function servedModels(routers: readonly Pick<RouterParts, 'model' | 'directory'>[]): readonly ServedModel[] {
  return routers.flatMap(({ model, directory }) => {
    const workers = directory.workers();
    const contextLength = servedContext(workers, model);
    if (contextLength === undefined) return [];
    const architecture = workers.find((worker) => worker.model === model)?.architecture ?? '';
    return [{ id: model, architecture, contextLength }];
  });
}
