import { describe, expect, it } from 'vitest';
import { philox4x32, uniform } from './philox.ts';

describe('philox4x32', () => {
  it('matches the known answers of Random123 (kat_vectors, philox4x32 10)', () => {
    expect(philox4x32([0, 0, 0, 0], [0, 0])).toEqual([0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
    const ones = 0xffffffff;
    expect(philox4x32([ones, ones, ones, ones], [ones, ones])).toEqual([0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
    expect(philox4x32([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0])).toEqual([
      0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1,
    ]);
  });
});

describe('uniform', () => {
  it('is the first 53 bits of the block at (seed, position)', () => {
    expect(uniform(0n, 0)).toBe(((0x6627e8d5 >>> 5) * 2 ** 26 + (0xe169c58d >>> 6)) / 2 ** 53);
    expect(uniform(0x299f31d0_a4093822n, 7)).toBe(uniform(0x299f31d0_a4093822n + (1n << 64n), 7));
    expect(uniform(1n, 0)).not.toBe(uniform(1n << 32n, 0));
  });

  it('is uniform over positions: 64 bins of 64,000 draws pass a chi-square test at 1e-6', () => {
    const bins = Array.from({ length: 64 }, () => 0);
    for (let position = 0; position < 64_000; position++) {
      const u = uniform(42n, position);
      expect(u >= 0 && u < 1).toBe(true);
      const bin = Math.floor(u * 64);
      bins[bin] = (bins[bin] ?? 0) + 1;
    }
    const chi = bins.reduce((sum, count) => sum + (count - 1000) ** 2 / 1000, 0);
    expect(chi).toBeLessThan(129); // 63 degrees of freedom
  });
});
