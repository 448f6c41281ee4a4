import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fail } from '@causeway/errors';
import { formatBytes } from '@causeway/topology';
import { isAlive } from '../cluster/process-identity.ts';
import { readRunState } from '../cluster/run-state.ts';
import type { CliConfig } from '../config.ts';
import { locateModel } from '../models/find-model.ts';
import { hubCacheModels } from '../models/hub-cache.ts';
import { inspect, type Inspection } from '../models/inspect.ts';
import { type ModelPlaces, modelPlaces } from '../models/model-places.ts';
import { ollamaModels } from '../models/ollama-cache.ts';
import { pullHere } from '../models/pull-here.ts';
import { BUILT_IN_MODELS, type RunPaths } from '../paths.ts';
import type { Output } from '../terminal/output.ts';
import { StopSignals, type SignalSource } from '../terminal/stop-signals.ts';
import { table } from '../terminal/table.ts';

export interface ModelsDeps {
  readonly config: CliConfig;
  readonly paths: RunPaths;
  readonly out: Output;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly signals: SignalSource;
}

/** `models list --json`, one model; fields are added, never renamed. */
export interface ListedModel extends Inspection {
  /** As `--model` and `pull` take it. */
  readonly name: string;
  readonly origin: 'built-in' | 'pulled' | 'catalogue' | 'ollama' | 'huggingface';
  /** Absent for one that has to be pulled first. */
  readonly path?: string;
  /** Where a pulled one came from. */
  readonly source?: string;
}

/** Lists what can be served, and what can be pulled by name. */
export async function listModels(options: { json: boolean }, deps: Pick<ModelsDeps, 'config' | 'out'>): Promise<number> {
  const models = await collect(modelPlaces(deps.config));
  if (options.json) {
    deps.out.line(JSON.stringify({ models }, undefined, 2));
    return 0;
  }
  const rows = models.map(({ name, origin, format, architecture, quantisation, bytes, path, problem }) => [
    name,
    ORIGINS[origin],
    format ?? '',
    architecture ?? '',
    quantisation ?? '',
    bytes === undefined ? '' : formatBytes(bytes),
    path === undefined
      ? `./causeway models pull ${name}`
      : problem === undefined
        ? ''
        : deps.out.red(problem.split('\n')[0] ?? ''),
  ]);
  for (const line of table(['MODEL', 'WHERE', 'FORMAT', 'ARCHITECTURE', 'WEIGHTS', 'SIZE', ''], rows)) deps.out.line(line);
  return 0;
}

const ORIGINS: Readonly<Record<ListedModel['origin'], string>> = {
  'built-in': 'built in',
  pulled: 'pulled',
  catalogue: 'not here',
  ollama: "Ollama's",
  huggingface: "Hugging Face's cache",
};

async function collect(places: ModelPlaces): Promise<ListedModel[]> {
  const pulled = places.store.list();
  const here: ListedModel[] = [
    ...builtIn().map((name) => ({ name, origin: 'built-in' as const, path: join(BUILT_IN_MODELS, name) })),
    ...pulled.map(({ manifest: { name, source }, path }) => ({ name, origin: 'pulled' as const, path, source })),
    ...ollamaModels(places.ollama).map((model) => ({ ...model, origin: 'ollama' as const })),
    ...hubCacheModels(places.hubCache).map((model) => ({ ...model, origin: 'huggingface' as const })),
  ];
  const inspected: ListedModel[] = [];
  for (const model of here) inspected.push({ ...model, ...(await inspect(model.path ?? '')) });
  const absent = places.catalogue.filter(({ name }) => !pulled.some(({ manifest }) => manifest.name === name));
  return [...inspected, ...absent.map(({ name, bytes }): ListedModel => ({ name, origin: 'catalogue', bytes }))];
}

function builtIn(): string[] {
  return readdirSync(BUILT_IN_MODELS, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name);
}

/** Pulls a model of the catalogue or `hf:OWNER/REPO[/FILE]`. Exit code 130 when it was interrupted; it goes on at the next pull. */
export async function pull(options: { name: string }, deps: ModelsDeps): Promise<number> {
  const { out, config } = deps;
  const found = locateModel(options.name, process.cwd(), modelPlaces(config));
  if (found.kind === 'here') {
    out.line(`${options.name} is here already: ${found.model.path}`);
    return 0;
  }
  using stop = new StopSignals(deps.signals, () => undefined);
  try {
    const { path } = await pullHere(found.wanted, deps, stop.signal);
    const { architecture, quantisation, problem } = await inspect(path);
    out.line(`pulled ${options.name} (${[architecture, quantisation].filter(Boolean).join(', ')}): ${path}`);
    if (problem === undefined) out.line(`./causeway up --model ${options.name} serves it`);
    else out.warn(`it cannot be served: ${problem}`);
    return problem === undefined ? 0 : 1;
  } catch (error) {
    if (!stop.signal.aborted) throw error;
    out.line();
    out.line(`stopped; ./causeway models pull ${options.name} goes on from here`);
    return 130;
  }
}

/** Deletes a pulled model; what other programs own is left alone. */
export async function remove(options: { name: string }, { config, paths, out }: ModelsDeps): Promise<number> {
  const { store, ollama, hubCache } = modelPlaces(config);
  const { name } = options;
  const stored = store.find(name);
  const state = readRunState(paths);
  if (
    stored !== undefined &&
    state !== undefined &&
    isAlive(state.supervisor) &&
    state.models.some(({ path }) => path === stored.path)
  )
    fail('failed_precondition', 'bad_request', `${name} is being served by the cluster that is up; ./causeway down first`);
  if (store.remove(name)) {
    out.line(`removed ${name} from ${store.root}`);
    return 0;
  }
  const owner = ollamaModels(ollama).some((model) => model.name === name)
    ? `it is Ollama's: ollama rm ${name}`
    : hubCacheModels(hubCache).some((model) => model.name === name)
      ? "it is in the cache of Hugging Face's clients: hf cache rm (or huggingface-cli delete-cache)"
      : builtIn().includes(name)
        ? 'it is built in'
        : `pulled are: ${
            store
              .list()
              .map(({ manifest }) => manifest.name)
              .join(', ') || 'none'
          }`;
  return fail('not_found', 'not_found', `${name} was not pulled, so there is nothing to remove; ${owner}`);
}
