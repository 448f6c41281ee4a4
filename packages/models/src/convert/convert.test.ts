import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { storedAs } from '../testing/quantized-blocks.ts';
import { BLOCK, CONVERTIBLE_TYPES, type ConvertibleType } from './convert-job.ts';
import { halfToFloat } from './half-float.ts';
import { isQuantized } from './quant-formats.ts';
import { packedForm, repack } from './repack.ts';
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

const decoded = (base64: string): Uint8Array<ArrayBuffer> => Uint8Array.from(Buffer.from(base64, 'base64'));
const tableOfBlocks = JSON.parse(readFileSync(new URL('../testing/gguf-blocks.json', import.meta.url), 'utf8')) as Record<
  Exclude<ConvertibleType, 'F32'>,
  { blocks: string; values: string }
>;

describe('values of GGUF blocks', () => {
  const types = Object.keys(tableOfBlocks) as (keyof typeof tableOfBlocks)[];

  it('has an example of every type', () => {
    expect(['F32', ...types]).toEqual(CONVERTIBLE_TYPES);
  });

  it.each(types)('%s: bits are those of the Python package gguf', (type) => {
    const { blocks, values } = tableOfBlocks[type];
    const wanted = new Uint32Array(decoded(values).buffer);
    const out = new Float32Array(wanted.length);
    widen(type, decoded(blocks), out);
    expect(new Uint32Array(out.buffer)).toEqual(wanted);
  });
});

/** What MatMulNBits reads as element i. */
function packedQuant(quants: Uint8Array, bits: 4 | 8, i: number): number {
  return bits === 8 ? (quants[i] ?? 0) - 128 : (((quants[i >> 1] ?? 0) >> (i % 2 === 0 ? 0 : 4)) & 15) - 8;
}

describe('blocks repacked for MatMulNBits', () => {
  it.each(CONVERTIBLE_TYPES.filter(isQuantized))('%s: any bytes are numbers, and nothing is written past the end', (type) => {
    const { elements, bytes: step, group, bits } = { ...BLOCK[type], ...packedForm(type) };
    const count = 3 * elements;
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 3 * step, maxLength: 3 * step }), (bytes) => {
        const memory = new Float32Array(count + 1).fill(7);
        widen(type, bytes, memory.subarray(0, count));
        const quants = new Uint8Array((count * bits) / 8 + 1).fill(7);
        const scales = new Float32Array(count / group + 1).fill(7);
        repack(type, bytes, quants.subarray(0, -1), scales.subarray(0, -1), undefined);
        expect([memory.at(-1), quants.at(-1), scales.at(-1)]).toEqual([7, 7, 7]);
      }),
      { numRuns: 50 },
    );
  });

  it.each(CONVERTIBLE_TYPES.filter(isQuantized))('%s: weights are scale * quant + offset', (type) => {
    const { bytes } = storedAs(type, [2, 768], 9);
    const wanted = new Float32Array(2 * 768);
    widen(type, bytes, wanted);
    const { bits, group, hasOffsets } = packedForm(type);
    const groups = wanted.length / group;
    const quants = new Uint8Array((wanted.length * bits) / 8);
    const scales = new Float32Array(groups);
    const offsets = hasOffsets ? new Float32Array(groups) : undefined;
    repack(type, bytes, quants, scales, offsets);
    const largest = Math.max(...wanted.map(Math.abs));
    wanted.forEach((value, i) => {
      const g = Math.floor(i / group);
      const found = (scales[g] ?? 0) * packedQuant(quants, bits, i) + (offsets?.[g] ?? 0);
      if (hasOffsets) expect(Math.abs(found - value)).toBeLessThanOrEqual(largest * 2 ** -22);
      else expect(found === value).toBe(true);
    });
  });

  it.each([
    ['Q4_0', 4, 32, false],
    ['Q4_K', 4, 32, true],
    ['Q5_0', 8, 32, false],
    ['Q5_1', 8, 32, true],
    ['Q5_K', 8, 32, true],
    ['Q6_K', 8, 16, false],
  ] as const)('%s becomes %s bits in groups of %s', (type, bits, group, hasOffsets) => {
    expect(packedForm(type)).toEqual({ bits, group, hasOffsets });
  });
});
