import { fail } from '@causeway/errors';
import type { EngineOptions } from './options.ts';
import type { Engine } from './types.ts';

/** Builds the sessions, slots and loop of an engine. */
export async function createEngine(_options: EngineOptions): Promise<Engine> {
  return fail('unimplemented', 'internal', 'the engine is not in this build yet');
}
