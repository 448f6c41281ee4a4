import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { findVulkan, type MachineVulkan } from './find-vulkan.ts';

const folder = mkdtempSync(join(tmpdir(), 'vulkan-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** A machine with these devices and files; the test's own folder is real. */
const machine = (devices: readonly string[], files: readonly string[], arch = 'x64'): MachineVulkan => ({
  arch,
  devices,
  exists: (path) => files.includes(path) || path.startsWith(folder),
});
const LOADER = '/usr/lib/x86_64-linux-gnu/libvulkan.so.1';

/** A folder with a loader and a driver's description; what is in them nobody reads here. */
function driver(name: string): string {
  const place = join(folder, name);
  mkdirSync(place);
  for (const file of ['libvulkan.so.1', 'some_icd.json']) writeFileSync(join(place, file), '');
  return place;
}

describe('findVulkan', () => {
  it("takes the system's where there is a GPU and a loader", async () => {
    for (const device of ['renderD128', 'nvidia0']) {
      expect(await findVulkan('/nowhere', undefined, machine([device, 'null'], [LOADER]))).toEqual({ kind: 'system' });
    }
  });
  it('takes a driver that was fetched before, without a GPU or without a loader for it', async () => {
    const place = driver('fetched');
    expect(await findVulkan(place, undefined, machine(['null'], [LOADER]))).toEqual({ kind: 'folder', folder: place });
    expect(await findVulkan(place, undefined, machine(['renderD128'], []))).toEqual({ kind: 'folder', folder: place });
  });
  it('says why there is none on a processor that the provider is not built for', async () => {
    const place = await findVulkan('/nowhere', undefined, machine(['renderD128'], [LOADER], 'arm64'));
    expect(place).toMatchObject({ kind: 'none', why: expect.stringMatching(/no WebGPU for Linux on arm64/) as string });
  });
  it('says what to install where nothing is there and it cannot be fetched', async () => {
    const stopped = AbortSignal.abort(new Error('stopped'));
    const place = await findVulkan(join(folder, 'empty'), stopped, machine(['nvidia0'], []));
    expect(place).toMatchObject({
      kind: 'none',
      why: expect.stringMatching(
        /SwiftShader could not be fetched.*install libvulkan1.*apt-get install chromium.*CAUSEWAY_VULKAN_DIR/,
      ) as string,
    });
  });
});
