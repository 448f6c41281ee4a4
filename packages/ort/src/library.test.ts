import { existsSync } from 'node:fs';
import { expect, test } from 'vitest';
import { onnxRuntimePath } from './library.ts';

test('the library of either Linux is in the package', () => {
  expect(existsSync(onnxRuntimePath('linux', 'x64'))).toBe(true);
  expect(existsSync(onnxRuntimePath('linux', 'arm64'))).toBe(true);
});

test.each([
  ['darwin', 'arm64'],
  ['win32', 'x64'],
  ['linux', 'riscv64'],
])('%s on %s is refused by name', (platform, arch) => {
  expect(() => onnxRuntimePath(platform, arch)).toThrow(
    expect.objectContaining({
      reason: 'unsupported_platform',
      message: expect.stringContaining(`this is ${platform} on ${arch}`),
    }),
  );
});
