/** Renders deploy/kubernetes as a user does, and checks manifests against the published schemas. */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { typeProblems } from './type-check.ts';

export const ROOT = resolve(import.meta.dirname, '../..');

/** A Kubernetes object; what the checks look at. */
export interface Manifest {
  apiVersion: string;
  kind: string;
  metadata: { name: string; namespace?: string; labels?: Record<string, string> };
  // Each check reads the part of the kind that it is about.
  // oxlint-disable-next-line no-explicit-any
  spec?: any;
  data?: Record<string, string>;
}

/** Whether there is a kubectl, whose kustomize knows `patches` (1.21 and later). */
export function kubectlPossible(): boolean {
  const version = spawnSync('kubectl', ['version', '--client', '-o', 'json'], { encoding: 'utf8' });
  const minor = /"minor": "(\d+)/.exec(version.stdout ?? '')?.[1];
  return minor !== undefined && Number(minor) >= 21;
}

export const SECRETS = {
  CAUSEWAY_NATS_PASSWORD: 'pnats',
  CAUSEWAY_REDIS_PASSWORD: 'predis',
  CAUSEWAY_REDIS_URL: 'redis://:predis@redis:6379',
  CAUSEWAY_API_KEYS: '',
};

/** `kubectl kustomize` of an overlay in a copy of deploy/kubernetes; `secrets` false leaves secrets.env out. */
export function kustomize(overlay: string, secrets = true): { status: number | null; stderr: string; manifests: Manifest[] } {
  const folder = mkdtempSync(join(tmpdir(), 'causeway-kustomize-'));
  try {
    cpSync(join(ROOT, 'deploy/kubernetes'), folder, { recursive: true, filter: (path) => !path.endsWith('secrets.env') });
    const target = join(folder, 'overlays', overlay);
    if (secrets) {
      const lines = Object.entries(SECRETS).map(([key, value]) => `${key}=${value}`);
      writeFileSync(join(target, 'secrets.env'), `${lines.join('\n')}\n`);
    }
    const { status, stdout, stderr } = spawnSync('kubectl', ['kustomize', target], { encoding: 'utf8', timeout: 60_000 });
    return { status, stderr, manifests: status === 0 ? parseManifests(stdout) : [] };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export function parseManifests(text: string): Manifest[] {
  return parseAllDocuments(text, { version: '1.1' }).map((document) => document.toJS() as Manifest);
}

/** Group and version as `kubernetes-models` names its modules. */
function schemaModule(manifest: Manifest): string {
  if (manifest.apiVersion.startsWith('monitoring.coreos.com/'))
    return `@kubernetes-models/prometheus-operator/${manifest.apiVersion}`;
  return `kubernetes-models/${manifest.apiVersion}`;
}

/** What the schemas' validators say of values, types and required fields; empty when all are right. */
export async function schemaProblems(manifests: readonly Manifest[]): Promise<string[]> {
  const problems: string[] = [];
  for (const manifest of manifests) {
    const models = (await import(schemaModule(manifest))) as Record<string, new (data: object) => { validate(): void }>;
    const Model = models[manifest.kind];
    if (Model === undefined) {
      problems.push(`${manifest.kind} ${manifest.metadata.name}: no such kind in ${manifest.apiVersion}`);
      continue;
    }
    try {
      new Model(manifest).validate();
    } catch (error) {
      problems.push(`${manifest.kind} ${manifest.metadata.name}: ${(error as Error).message}`);
    }
  }
  return problems;
}

/**
 * Fields that the schemas don't have. The validators let them pass; the compiler doesn't: an object literal that has more than its type,
 * which is made of the same schemas, is an error.
 */
export function unknownFields(manifests: readonly Manifest[]): string[] {
  const lines = manifests.flatMap((manifest, index) => [
    `import type { I${manifest.kind} as T${index} } from '${schemaModule(manifest)}';`,
    `export const m${index}: T${index} = ${JSON.stringify(manifest, null, 1)};`,
  ]);
  const problems = typeProblems(lines.join('\n'), { module: 'nodenext', moduleResolution: 'nodenext' });
  return problems.filter((line) => line.includes('error TS'));
}

export const kinds = (manifests: readonly Manifest[], ...names: string[]): Manifest[] =>
  manifests.filter(({ kind }) => names.includes(kind));
