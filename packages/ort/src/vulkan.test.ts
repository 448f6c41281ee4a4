import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { loadVulkan, vulkanLibrary } from './index.ts';

const folder = mkdtempSync(join(tmpdir(), 'vulkan-'));
afterAll(() => rmSync(folder, { recursive: true }));

function place(name: string, files: readonly string[]): string {
  const path = join(folder, name);
  mkdirSync(path);
  for (const file of files) writeFileSync(join(path, file), 'not an ELF file');
  return path;
}

describe('a folder with Vulkan', () => {
  test('has a loader and at least one description of a driver', () => {
    const whole = place('whole', ['libvulkan.so.1', 'a_icd.json', 'b_icd.json', 'notes.txt']);
    const found = vulkanLibrary(whole);
    expect(found?.loader).toBe(join(whole, 'libvulkan.so.1'));
    expect(found?.drivers.split(':').toSorted()).toEqual([join(whole, 'a_icd.json'), join(whole, 'b_icd.json')]);
    expect(vulkanLibrary(place('loader', ['libvulkan.so.1']))).toBeUndefined();
    expect(vulkanLibrary(place('driver', ['a_icd.json']))).toBeUndefined();
    expect(vulkanLibrary('/nowhere')).toBeUndefined();
  });

  test('that lacks one of them, or whose loader is no library, is refused with what is wrong', () => {
    const refused = { name: 'ServiceError', code: 'failed_precondition', reason: 'provider_missing' };
    const refusal = (path: string): Error => {
      try {
        loadVulkan({ folder: path });
      } catch (error) {
        expect(error).toMatchObject(refused);
        return error as Error;
      }
      return expect.fail('it was loaded');
    };
    expect(refusal('/nowhere').message).toMatch(/^\/nowhere has no libvulkan\.so\.1 with an \*_icd\.json beside it$/);
    const broken = place('broken', ['libvulkan.so.1', 'a_icd.json']);
    expect(refusal(broken).message).toMatch(
      /^Vulkan's loader .*broken\/libvulkan\.so\.1 cannot be loaded \(.*\): it may be of another architecture$/,
    );
  });
});
