import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Where `./causeway test` and `up` fetch it to. */
const SWIFTSHADER = fileURLToPath(new URL('../../../.causeway/swiftshader', import.meta.url));

/**
 * Vulkan for tests of chip family `webgpu`: a folder, or the system's (`undefined`). `./causeway test` says which
 * (CAUSEWAY_TEST_VULKAN); by hand SwiftShader is used where an earlier run has fetched it.
 */
export function testVulkan(): string | undefined {
  const told = process.env['CAUSEWAY_TEST_VULKAN'];
  if (told === 'system') return undefined;
  return told ?? SWIFTSHADER;
}

/** Nothing of the kind can be had here: such tests are skipped, by name in tests/skips.txt. */
export const withoutVulkan: boolean = (() => {
  const told = process.env['CAUSEWAY_TEST_VULKAN'];
  return told === 'none' || (told === undefined && !existsSync(SWIFTSHADER));
})();
