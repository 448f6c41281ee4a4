import type { CliConfig } from '../config.ts';
import type { Output } from '../terminal/output.ts';
import { createProgress } from '../terminal/progress.ts';
import { hubAccess } from './hub-access.ts';
import { modelPlaces } from './model-places.ts';
import { type Pullable, pullModel } from './pull.ts';
import type { StoredModel } from './store.ts';

/** Pulls into the store, telling how far it is. */
export async function pullHere(
  wanted: Pullable,
  { config, out, env }: { config: CliConfig; out: Output; env: Readonly<Record<string, string | undefined>> },
  signal: AbortSignal,
): Promise<StoredModel> {
  const { terminal } = out;
  return pullModel(wanted, {
    store: modelPlaces(config).store,
    hub: hubAccess({ endpoint: config.hubEndpoint, token: config.hubToken }),
    env,
    signal,
    terminal,
    say: (text) => out.line(text),
    progress: (label, total) => createProgress(out, { label, total, terminal }),
  });
}
