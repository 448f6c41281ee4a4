import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { halfToFloat } from './half-float.ts';
import { repackQ4, repackQ8 } from './repack.ts';
import { widen } from './widen.ts';

/** Value of f16 bits by the definition: sign * 2^(e-15) * 1.m, subnormals 2^-14 * 0.m. */
function halfValue(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 31;
  const mantissa = half & 1023;
  if (exponent === 31) return mantissa === 0 ? sign * Infinity : NaN;
  return exponent === 0 ? sign * 2 ** -14 * (mantissa / 1024) : sign * 2 ** (exponent - 15) * (1 + mantissa / 1024);
}

const finiteHalf = fc.integer({ min: 0, max: 0xffff }).filter((half) => ((half >> 10) & 31) !== 31);
const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });

describe('half floats', () => {
  it('widen exactly, all 65,536 of them', () => {
    const table = halfToFloat();
    for (let half = 0; half < 65_536; half++) {
      if (!Object.is(table[half], halfValue(half))) throw new Error(`f16 ${half}: ${table[half]}`);
    }
  });
});

describe('widen', () => {
  it('keeps f32 bits, also from an odd address', () => {
    fc.assert(
      fc.property(fc.float32Array({ minLength: 1, maxLength: 40 }), fc.integer({ min: 0, max: 3 }), (values, shift) => {
        const memory = new Uint8Array(values.byteLength + shift);
        memory.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), shift);
        const out = new Float32Array(values.length);
        widen('F32', memory.subarray(shift), out);
        expect(out).toEqual(values);
      }),
    );
  });

  it('widens bf16 and f16 exactly, also from an odd address', () => {
    fc.assert(
      fc.property(fc.array(finiteHalf, { minLength: 1, maxLength: 40 }), fc.boolean(), (words, odd) => {
        const memory = new Uint8Array(words.length * 2 + 1);
        words.forEach((word, i) => memory.set([word & 255, word >> 8], 2 * i + (odd ? 1 : 0)));
        const stored = memory.subarray(odd ? 1 : 0, words.length * 2 + (odd ? 1 : 0));
        const f16 = new Float32Array(words.length);
        widen('F16', stored, f16);
        expect([...f16]).toEqual(words.map(halfValue));
        const bf16 = new Float32Array(words.length);
        widen('BF16', stored, bf16);
        expect(new Uint32Array(bf16.buffer)).toEqual(Uint32Array.from(words, (word) => word << 16));
      }),
    );
  });

  it('refuses a length that does not fit', () => {
    expect(() => widen('Q8_0', new Uint8Array(33), new Float32Array(32))).toThrow(RangeError);
  });
});

/** Blocks of a quantised type: f16 fields, then quants. */
const blocks = (halves: number, quants: number) =>
  fc
    .array(fc.tuple(fc.array(finiteHalf, { minLength: halves, maxLength: halves }), bytes(quants)), {
      minLength: 1,
      maxLength: 4,
    })
    .map((list) => ({
      list,
      bytes: Uint8Array.from(list.flatMap(([fields, quant]) => [...fields.flatMap((half) => [half & 255, half >> 8]), ...quant])),
    }));

/** Element i of a 4-bit GGUF block. */
const nibble = (quants: Uint8Array, i: number): number => (i < 16 ? (quants[i] ?? 0) & 15 : (quants[i - 16] ?? 0) >> 4);

/** What MatMulNBits reads as element i: nibbles in order. */
const packedNibble = (quants: Uint8Array, i: number): number => ((quants[i >> 1] ?? 0) >> (i % 2 === 0 ? 0 : 4)) & 15;

describe('4-bit blocks', () => {
  it('Q4_0 widens to d * (q - 8) and repacks to the same numbers', () => {
    fc.assert(
      fc.property(blocks(1, 16), ({ list, bytes: stored }) => {
        const out = new Float32Array(list.length * 32);
        widen('Q4_0', stored, out);
        const quants = new Uint8Array(list.length * 16);
        const scales = new Float32Array(list.length);
        repackQ4(stored, quants, scales, undefined);
        list.forEach(([[d = 0], quant], b) => {
          for (let i = 0; i < 32; i++) {
            const q = nibble(quant, i);
            expect(packedNibble(quants.subarray(b * 16), i)).toBe(q);
            expect(out[b * 32 + i]).toBeCloseTo(halfValue(d) * (q - 8), 5);
          }
          expect(scales[b]).toBe(halfValue(d));
        });
      }),
      { numRuns: 50 },
    );
  });

  it('Q4_1 is d * q + m, and MatMulNBits plus the offset m + 8d gives the same', () => {
    fc.assert(
      fc.property(blocks(2, 16), ({ list, bytes: stored }) => {
        const out = new Float32Array(list.length * 32);
        widen('Q4_1', stored, out);
        const quants = new Uint8Array(list.length * 16);
        const scales = new Float32Array(list.length);
        const offsets = new Float32Array(list.length);
        repackQ4(stored, quants, scales, offsets);
        list.forEach(([[d = 0, m = 0]], b) => {
          const size = Math.abs(halfValue(d)) * 16 + Math.abs(halfValue(m));
          for (let i = 0; i < 32; i++) {
            const whole = (scales[b] ?? 0) * (packedNibble(quants.subarray(b * 16), i) - 8) + (offsets[b] ?? 0);
            expect(Math.abs(whole - (out[b * 32 + i] ?? 0))).toBeLessThanOrEqual(size * 2 ** -22);
          }
        });
      }),
      { numRuns: 50 },
    );
  });
});

describe('8-bit blocks', () => {
  it('Q8_0 widens to d * q and repacks around 128', () => {
    fc.assert(
      fc.property(blocks(1, 32), ({ list, bytes: stored }) => {
        const out = new Float32Array(list.length * 32);
        widen('Q8_0', stored, out);
        const quants = new Uint8Array(list.length * 32);
        const scales = new Float32Array(list.length);
        repackQ8(stored, quants, scales);
        list.forEach(([[d = 0], quant], b) => {
          for (let i = 0; i < 32; i++) {
            const q = ((quant[i] ?? 0) << 24) >> 24;
            expect((quants[b * 32 + i] ?? 0) - 128).toBe(q);
            expect(out[b * 32 + i]).toBe(Math.fround(halfValue(d) * q));
          }
        });
      }),
      { numRuns: 50 },
    );
  });
});
