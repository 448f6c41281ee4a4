/** SwiftShader, a Vulkan driver that computes on the CPU, out of Debian's package of Chromium, which is not installed for it. */
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { ServiceError } from '@causeway/errors';

const PACKAGE = 'chromium-common';
const FILES = ['libvk_swiftshader.so', 'libvulkan.so.1', 'vk_swiftshader_icd.json'];
/** Of the program's copyright file beside them. */
const NOTICE = './usr/share/doc/chromium-common/copyright';
const TIME_LIMIT_MS = 180_000;

/** What a person can do where it cannot be fetched. */
export const swiftShaderHint =
  'On Debian: apt-get install chromium (or, of its package chromium-common, the files libvk_swiftshader.so, libvulkan.so.1 and vk_swiftshader_icd.json in a folder that CAUSEWAY_VULKAN_DIR names)';

const run = promisify(execFile);

/**
 * Fetches the package with apt-get, which checks its signature, and keeps the driver and its loader in `folder`. Needs no root.
 * @returns milliseconds, and bytes of what was downloaded
 * @throws ServiceError `dependency_unavailable` that says what failed
 */
export async function fetchSwiftShader(folder: string, signal?: AbortSignal): Promise<{ ms: number; bytes: number }> {
  const start = performance.now();
  mkdirSync(dirname(folder), { recursive: true });
  const work = mkdtempSync(`${folder}-`);
  const options = { cwd: work, timeout: TIME_LIMIT_MS, ...(signal === undefined ? {} : { signal }) };
  try {
    await download(work, options);
    const deb = readdirSync(work).find((name) => name.endsWith('.deb'));
    if (deb === undefined) throw new Error(`apt-get downloaded no ${PACKAGE}`);
    const { size: bytes } = statSync(join(work, deb));
    const place = join(work, 'driver');
    mkdirSync(place);
    const script = 'dpkg-deb --fsys-tarfile "$1" | tar -x -C "$2" --no-same-owner --transform "s#.*/##" "$3" "$4" "$5" "$6"';
    const paths = [NOTICE, ...FILES.map((name) => `./usr/lib/chromium/${name}`)];
    await run('sh', ['-c', script, 'sh', deb, place, ...paths], options);
    rmSync(folder, { recursive: true, force: true });
    renameSync(place, folder);
    return { ms: performance.now() - start, bytes };
  } catch (cause) {
    const { stderr, message } = cause as Error & { stderr?: string };
    const last = (stderr ?? '').trim().split('\n').at(-1) ?? '';
    throw new ServiceError(`SwiftShader could not be fetched from Debian's ${PACKAGE}: ${last === '' ? message : last}`, {
      code: 'unavailable',
      reason: 'dependency_unavailable',
      cause,
    });
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** With the system's package lists, else with lists of its own: the system's may be absent or older than the mirror's packages. */
async function download(work: string, options: { cwd: string; timeout: number; signal?: AbortSignal }): Promise<void> {
  const get = (own: readonly string[], ...command: string[]) =>
    run('apt-get', ['-q', '-o', 'APT::Sandbox::User=root', ...own, ...command], options);
  try {
    await get([], 'download', PACKAGE);
  } catch {
    options.signal?.throwIfAborted();
    for (const name of ['lists/partial', 'cache/archives/partial']) mkdirSync(join(work, name), { recursive: true });
    const own = ['-o', `Dir::State::lists=${join(work, 'lists')}`, '-o', `Dir::Cache=${join(work, 'cache')}`];
    await get(own, 'update');
    await get(own, 'download', PACKAGE);
  }
}
