/** The conformance kit on the families of this machine, and what it says when something is wrong. */
import { copyFile, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { BUILT_IN_MODELS } from '../paths.ts';
import { conformance, type ConformanceFlags } from './conformance.ts';

const FLAGS: ConformanceFlags = { chip: 'cpu', emulated: false, model: 'tiny-moe', storages: 'default', threads: 2, json: false };

async function run(change: Partial<ConformanceFlags>): Promise<{ code: number; text: string }> {
  const lines: string[] = [];
  const out = { line: (text: string) => void lines.push(text) } as Parameters<typeof conformance>[1]['out'];
  const code = await conformance({ ...FLAGS, ...change }, { out, env: {} });
  return { code, text: lines.join('\n') };
}

describe('causeway conformance', () => {
  test.each([
    ['cpu', false, 'f32 NHD 16'],
    ['ascend', true, 'bf16 NHD 128 split'],
  ] as const)('%s conforms, emulated: %s', async (chip, emulated, storage) => {
    const { code, text } = await run({ chip, emulated });
    expect(text).toContain('5 of 5 checks hold');
    for (const check of ['goldens', 'KV in place', 'gather and scatter', 'conversions', 'cancel']) {
      expect(text).toMatch(new RegExp(`^${storage} +${check} +ok `, 'm'));
    }
    expect(code).toBe(0);
  });

  test('a family whose provider is missing is an error that says what to install', async () => {
    await expect(run({ chip: 'ascend' })).rejects.toMatchObject({
      reason: 'provider_missing',
      message: expect.stringMatching(/CANNExecutionProvider.*install/),
    });
  });

  test("an answer that is not the reference's is named, fails, and does not end the other checks", async () => {
    const folder = await mkdtemp(join(tmpdir(), 'causeway-conformance-'));
    try {
      const model = join(BUILT_IN_MODELS, 'tiny-moe');
      for (const name of await readdir(model)) {
        if (name.endsWith('.safetensors')) await symlink(join(model, name), join(folder, name));
        else await copyFile(join(model, name), join(folder, name));
      }
      const golden = JSON.parse(await readFile(join(folder, 'golden.json'), 'utf8')) as { cases: { greedy_ids: number[] }[] };
      (golden.cases[1] as { greedy_ids: number[] }).greedy_ids[0] = 7;
      await writeFile(join(folder, 'golden.json'), JSON.stringify(golden));
      const { code, text } = await run({ model: folder });
      expect(code).toBe(1);
      expect(text).toMatch(/goldens +FAIL .*case 2: 0 of \d+ firm tokens are the reference's/);
      expect(text).toContain('does NOT conform');
      expect(text).toContain('4 of 5 checks hold');
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
