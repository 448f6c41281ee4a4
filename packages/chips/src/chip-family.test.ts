import { storageName } from '@causeway/kv';
import { describe, expect, it } from 'vitest';
import { CHIP_NAMES, chipEmulated, chipFamily, chipProvider, chipStorage } from './chip-family.ts';

describe('chip families', () => {
  it('gives the family defaults where nothing is chosen', () => {
    expect(chipStorage(chipFamily('cpu'), {})).toEqual({
      dtype: 'f32',
      layout: 'NHD',
      blockTokens: 16,
      shards: { count: 1, index: 0 },
    });
  });
  it('says which families there are', () => {
    expect(() => chipFamily('abacus')).toThrow(/unknown chip family "abacus"; known: cpu, webgpu, nvidia, ascend, cambricon/);
  });
  it('refuses a block length that the family does not have', () => {
    expect(() => chipStorage(chipFamily('cpu'), { blockTokens: 17 })).toThrow(/no blocks of 17 tokens/);
  });
  it('stores as each family does', () => {
    const latent = { kind: 'latent', rank: 32, ropeDim: 16 } as const;
    const stored = Object.fromEntries(
      CHIP_NAMES.map((name) => [name, storageName(chipStorage(chipFamily(name), { layers: [latent] }))]),
    );
    expect(stored).toEqual({
      cpu: 'f32 NHD 16',
      webgpu: 'f32 NHD 16',
      nvidia: 'bf16 NHD 16',
      ascend: 'bf16 NHD 128 split',
      cambricon: 'bf16 HND 16',
    });
    expect(storageName(chipStorage(chipFamily('ascend'), { dtype: 'int8', layout: 'NZ' }))).toBe('int8 NZ 128');
  });
  it('refuses a layout and a type that the family does not have', () => {
    expect(() => chipStorage(chipFamily('cambricon'), { layout: 'NZ' })).toThrow(/has no layout NZ; it has: HND/);
    expect(() => chipStorage(chipFamily('ascend'), { dtype: 'f8e4m3' })).toThrow(
      /cannot store KV as f8e4m3; it can: bf16, f16, int8/,
    );
  });
  it('imitates a family only when told to, and says what is missing otherwise', () => {
    const providers = ['CPUExecutionProvider'];
    expect(chipEmulated(chipFamily('ascend'), true, providers)).toBe(true);
    expect(chipEmulated(chipFamily('cpu'), false, providers)).toBe(false);
    expect(() => chipEmulated(chipFamily('ascend'), false, providers)).toThrow(
      /CANNExecutionProvider.*CPUExecutionProvider.*install.*CAUSEWAY_CHIP_EMULATED/,
    );
    expect(() => chipEmulated(chipFamily('cpu'), true, providers)).toThrow(/nothing to emulate/);
  });
  it('computes with the provider of webgpu where it is and nobody imitates it, once Vulkan is there', () => {
    const family = chipFamily('webgpu');
    const providers = [family.provider, 'CPUExecutionProvider'];
    expect(chipEmulated(family, false, providers)).toBe(false);
    expect(chipEmulated(family, true, providers)).toBe(true);
    expect(() => chipEmulated(family, false, ['CPUExecutionProvider'])).toThrow(/is not in this ONNX Runtime.*Linux x64/);
    expect(chipProvider(family, true, {})).toBeUndefined();
    expect(chipProvider(chipFamily('cpu'), false, {})).toBeUndefined();
    expect(() => chipProvider(family, false, { vulkanDir: '/nowhere' })).toThrow(/\/nowhere has no libvulkan\.so\.1/);
  });
  it('refuses storage of webgpu that neither its pages nor its graphs have', () => {
    expect(() => chipStorage(chipFamily('webgpu'), { dtype: 'int8' })).toThrow(
      /webgpu cannot store KV as int8; it can: f32, bf16, f16/,
    );
  });
});
