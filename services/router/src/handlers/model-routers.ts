import { fail } from '@causeway/errors';
import type { RequestSource } from '../prompt.ts';
import { modelNameIn } from '../request/model-name.ts';
import type { RequestContext } from '../request-context.ts';
import type { RouterParts } from '../router-parts.ts';
import { failed } from './serve.ts';

/** The parts of every model that is served, and the choice among them. */
export interface ModelRouters {
  readonly each: readonly RouterParts[];
  /** For what concerns no model: errors without one, limits. */
  readonly first: RouterParts;
  /**
   * The parts of the model that a request names. Of a request that cannot be read, those of any: it will be refused when it is read.
   * @throws ServiceError, counted and logged: `unknown_model`, or `bad_request` when none is named among several
   */
  of(ctx: RequestContext, source: RequestSource): Promise<RouterParts>;
}

export function modelRouters(each: readonly RouterParts[]): ModelRouters {
  const [first] = each;
  if (first === undefined) throw new Error('a router serves at least one model');
  const served = each.map(({ model }) => model).join(', ');
  return {
    each,
    first,
    of: async (ctx, source) => {
      // The only one checks the name when it reads the request.
      if (each.length === 1) return first;
      try {
        const named = await modelNameIn(source.kind, source.body);
        if (named.kind === 'unreadable') return first;
        if (named.kind === 'absent')
          fail('invalid_argument', 'bad_request', `'model' is missing, and this router serves several: ${served}`, {
            field: 'model',
          });
        const found = each.find(({ model }) => model === named.model);
        if (found !== undefined) return found;
        const message = `the model '${named.model.slice(0, 512)}' does not exist here; served: ${served}`;
        return fail('not_found', 'unknown_model', message, { field: 'model' });
      } catch (error) {
        throw failed(ctx, error, first);
      }
    },
  };
}
