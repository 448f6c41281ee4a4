import { parseTopology, type Topology } from '@causeway/topology';
import { describe, expect, it } from 'vitest';
import { chipsHere } from './vulkan.ts';

const topology = (webgpu: string): Topology =>
  parseTopology(
    `version: 1\npools:\n  - {name: r, role: router}\n  - {name: p, role: prefill, ${webgpu}}\n  - {name: d, role: decode}\n`,
    'test.yaml',
  );
const names = ({ pools }: Topology): string[] => pools.map(({ name }) => name);
const none = async () => ({ kind: 'none', why: 'no driver' }) as const;

describe('pools of chip webgpu', () => {
  it('are told where Vulkan is when it is a folder, and nothing when it is the system', async () => {
    const wanted = topology('chip: webgpu');
    const told = await chipsHere(wanted, {}, async () => ({ kind: 'folder', folder: '/vulkan' }));
    expect(told).toMatchObject({ topology: wanted, env: { CAUSEWAY_VULKAN_DIR: '/vulkan' } });
    expect(told.notes).toEqual([expect.stringMatching(/SwiftShader in \/vulkan/)]);
    expect(await chipsHere(wanted, {}, async () => ({ kind: 'system' }))).toEqual({ topology: wanted, env: {}, notes: [] });
  });
  it('are left out where there is none if they are optional, which is said, and an error otherwise', async () => {
    const without = await chipsHere(topology('chip: webgpu, optional: true'), {}, none);
    expect(names(without.topology)).toEqual(['r', 'd']);
    expect(without.notes).toEqual(['pool p is left out: chip webgpu cannot be had here (no driver)']);
    await expect(chipsHere(topology('chip: webgpu'), {}, none)).rejects.toMatchObject({
      reason: 'provider_missing',
      message: 'pool p wants chip webgpu, which cannot be had here: no driver',
    });
  });
  it('make nobody look where there are none, where they are emulated, or where the user said which', async () => {
    const never = () => expect.fail('it was looked for');
    for (const [pool, env] of [
      ['chip: cpu', {}],
      ['chip: webgpu, emulated: true', {}],
      ['chip: webgpu', { CAUSEWAY_VULKAN_DIR: '/mine' }],
    ] as const) {
      const wanted = topology(pool);
      expect(await chipsHere(wanted, env, never)).toEqual({ topology: wanted, env: {}, notes: [] });
    }
  });
});
