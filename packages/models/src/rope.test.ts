import { describe, expect, it } from 'vitest';
import { attentionScaleFactor, type RopeConfig, ropeFrequencies, rotaryFactor } from './rope.ts';

const deepseek: RopeConfig = {
  type: 'yarn',
  theta: 10_000,
  factor: 40,
  originalContextLength: 4096,
  betaFast: 32,
  betaSlow: 1,
  mscale: 1,
  mscaleAllDim: 1,
};

describe('rotary frequencies', () => {
  it('fall geometrically from 1 by default, and are divided by a linear factor', () => {
    expect(ropeFrequencies({ type: 'default', theta: 10_000 }, 4)).toEqual([1, 0.01]);
    expect(ropeFrequencies({ type: 'linear', theta: 10_000, factor: 4 }, 4)).toEqual([0.25, 0.0025]);
  });

  it('llama3 keeps short wavelengths, slows long ones by the factor and blends between', () => {
    const plain = ropeFrequencies({ type: 'default', theta: 500_000 }, 128);
    const scaled = ropeFrequencies(
      { type: 'llama3', theta: 500_000, factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalContextLength: 8192 },
      128,
    );
    scaled.forEach((frequency, i) => {
      const base = plain[i] ?? 0;
      const wavelength = (2 * Math.PI) / base;
      if (wavelength < 8192 / 4) expect(frequency).toBe(base);
      else if (wavelength > 8192) expect(frequency).toBe(base / 8);
      else expect(frequency > base / 8 && frequency < base).toBe(true);
    });
    expect(scaled.some((frequency, i) => frequency !== plain[i] && frequency !== (plain[i] ?? 0) / 8)).toBe(true);
  });

  it('yarn of DeepSeek-V3 keeps pairs up to 10 and interpolates from 23 on', () => {
    const plain = ropeFrequencies({ type: 'default', theta: 10_000 }, 64);
    const scaled = ropeFrequencies(deepseek, 64);
    const share = scaled.map((frequency, i) => frequency / (plain[i] ?? 1));
    expect(share.slice(0, 11).every((value) => value === 1)).toBe(true);
    expect(share[11]).toBeLessThan(1);
    expect(share[22]).toBeGreaterThan(1 / 40 + 1e-6);
    for (const value of share.slice(23)) expect(value).toBeCloseTo(1 / 40, 12);
  });

  it('yarn multiplies the attention scale, not cos and sin, when both mscales are equal', () => {
    expect(rotaryFactor(deepseek)).toBe(1);
    expect(attentionScaleFactor(deepseek)).toBeCloseTo(1.36889 ** 2, 4);
    expect(attentionScaleFactor({ ...deepseek, mscale: 0.707, mscaleAllDim: 0.707 })).toBeCloseTo(1.5896, 4);
  });

  it('yarn without mscales puts its temperature on cos and sin', () => {
    const { mscale: _, mscaleAllDim: __, ...plain } = deepseek;
    expect(rotaryFactor(plain)).toBeCloseTo(0.1 * Math.log(40) + 1, 12);
    expect(attentionScaleFactor(plain)).toBe(1);
  });

  it('other types change neither', () => {
    expect(rotaryFactor({ type: 'default', theta: 10_000 })).toBe(1);
    expect(attentionScaleFactor({ type: 'default', theta: 10_000 })).toBe(1);
  });
});
