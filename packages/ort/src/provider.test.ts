import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { diagnostics, type ProviderChoice, Runtime } from './index.ts';
import { crashingLibrary } from './testing/crashing-library.ts';
import { addGraph } from './testing/small-graphs.ts';

let runtime: Runtime;
beforeAll(() => {
  runtime = Runtime.create({ threads: 2 });
});
afterAll(async () => {
  await runtime[Symbol.asyncDispose]();
});

async function refusal(provider: string | ProviderChoice): Promise<Error> {
  const before = diagnostics();
  const error = await runtime.createSession(addGraph(), { provider }).then(
    () => expect.fail('a session was made'),
    (reason: unknown) => reason as Error,
  );
  expect(error).toMatchObject({ name: 'ServiceError', code: 'failed_precondition', reason: 'provider_missing' });
  expect(diagnostics()).toEqual(before);
  return error;
}

test('the CPU is there, and may be named', async () => {
  expect(runtime.providers()).toContain('CPUExecutionProvider');
  await using session = await runtime.createSession(addGraph(), { provider: 'CPUExecutionProvider' });
  expect(session.outputs).toHaveLength(1);
});

describe('a provider that cannot be used is refused', () => {
  test('when nobody knows it, with those that are there', async () => {
    const { message } = await refusal('CANNExecutionProvider');
    expect(message).toBe(`this ONNX Runtime has no CANNExecutionProvider; available: ${runtime.providers().join(', ')}`);
  });

  test('when its own library is not installed, with the reason', async () => {
    const { message } = await refusal({ name: 'CUDAExecutionProvider', options: { device_id: '0' } });
    expect(message).toMatch(
      /^CUDAExecutionProvider cannot be used: .*libonnxruntime_providers_.*; available: .*CPUExecutionProvider/s,
    );
  });

  test('when the plug-in library does not exist', async () => {
    const { message } = await refusal({ name: 'CANNExecutionProvider', library: '/nowhere/libcann.so' });
    expect(message).toMatch(/^there is no provider library \/nowhere\/libcann\.so; available: CPUExecutionProvider/);
  });

  test('when the plug-in library is no library, or no provider', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'ort-'));
    try {
      const path = join(folder, 'libfake.so');
      writeFileSync(path, 'not an ELF file');
      expect((await refusal({ name: 'Fake', library: path })).message).toMatch(
        /libfake\.so is no provider library: .*; available: /s,
      );
      const { onnxRuntimePath } = await import('./library.ts');
      const other = (await refusal({ name: 'Fake', library: onnxRuntimePath() })).message;
      expect(other).toMatch(/is no provider library: .*CreateEpFactories/s);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test('when the plug-in library crashes as it is loaded: this process goes on, and says so', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'ort-'));
    try {
      const path = join(folder, 'libcrash.so');
      writeFileSync(path, crashingLibrary());
      const choice = { name: 'CANNExecutionProvider', library: path };
      for (let attempt = 0; attempt < 2; attempt++) {
        expect((await refusal(choice)).message).toMatch(/libcrash\.so crashes when it is loaded \(SIG\w+\); available: .*CPU/);
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
