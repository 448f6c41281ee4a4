/** grpcurl, a gRPC client that knows a server only by its reflection. It is no Debian package: where there is Go it is built. */
import { execFile } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const VERSION = 'v1.9.3';
const CACHE = fileURLToPath(new URL(`../../.causeway/grpcurl-${VERSION}`, import.meta.url));
const BUILD_TIMEOUT_MS = 300_000;

const run = promisify(execFile);

/** Path of the program; undefined when it is not installed, and not built: there is no Go, or this is no full run. */
export async function findGrpcurl(): Promise<string | undefined> {
  const found = inPath('grpcurl') ?? inFolder(CACHE, 'grpcurl');
  const go = inPath('go');
  if (found !== undefined || go === undefined || process.env['CAUSEWAY_TEST_FULL'] !== '1') return found;
  const env = { ...process.env, GOBIN: CACHE, GOFLAGS: '-mod=mod' };
  await run(go, ['install', `github.com/fullstorydev/grpcurl/cmd/grpcurl@${VERSION}`], { env, timeout: BUILD_TIMEOUT_MS });
  return inFolder(CACHE, 'grpcurl');
}

function inPath(name: string): string | undefined {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    const file = folder === '' ? undefined : inFolder(folder, name);
    if (file !== undefined) return file;
  }
  return undefined;
}

function inFolder(folder: string, name: string): string | undefined {
  const file = join(folder, name);
  try {
    accessSync(file, constants.X_OK);
    return file;
  } catch {
    return undefined;
  }
}
