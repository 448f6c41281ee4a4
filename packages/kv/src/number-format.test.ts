import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { KvDtype } from './descriptor.ts';
import { kernels } from './kernels.ts';
import { decodeNumbers, encodeNumbers, LARGEST_CODE, LEAST_MAGNITUDE } from './number-format.ts';

const WIDTH = 8;

function roundTrip(
  dtype: KvDtype,
  values: readonly number[],
  scale = 1,
): { out: Float32Array; factors: Float32Array; bytes: Uint8Array } {
  const format = { dtype, width: WIDTH, scale };
  const bits = { f32: 32, f16: 16, bf16: 16, f8e4m3: 8, int8: 8, int4: 4 }[dtype];
  const rows = values.length / WIDTH;
  const size = (values.length * bits) / 8;
  const thread = kernels();
  const [numbers, factorsAt, from, to] = thread.areas(size, rows * 4, values.length * 4, values.length * 4);
  thread.put(new Uint8Array(Float32Array.from(values).buffer), from);
  encodeNumbers(format, { numbers, factors: factorsAt, values: from }, rows, to);
  decodeNumbers(format, { numbers, factors: factorsAt, values: to }, rows);
  const bytes = thread.view(numbers, size).slice();
  const factors = new Float32Array(thread.view(factorsAt, rows * 4).slice().buffer);
  const out = new Float32Array(thread.view(to, values.length * 4).slice().buffer);
  return { out, factors, bytes };
}

/** Finite f32 numbers of every size, ties among them. */
const number = fc.oneof(
  fc.float({ noNaN: true, noDefaultInfinity: true }),
  fc.float({ noNaN: true, noDefaultInfinity: true, min: -4, max: 4 }),
  fc.integer({ min: -4096, max: 4096 }).map((n) => n / 512),
);
const rows = fc.array(number, { minLength: WIDTH, maxLength: WIDTH }).map((row) => row.map(Math.fround));

/** The bf16 number nearest to a value, ties to even. */
function toBf16(value: number): number {
  if (!Number.isFinite(value)) return value;
  const [bits = 0] = new Uint32Array(Float32Array.of(value).buffer);
  const step = 2 ** 16;
  const nearest = nearestEven(bits / step) * step;
  return new Float32Array(Uint32Array.of(nearest).buffer)[0] as number;
}

/** To nearest, ties to even, by arithmetic alone. */
function nearestEven(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest !== 0.5) return rest < 0.5 ? below : below + 1;
  return below % 2 === 0 ? below : below + 1;
}

/** The f8e4m3 number nearest to a value, by trying all. */
function nearestF8(value: number): number {
  const magnitudes = Array.from({ length: 127 }, (_, byte) => {
    const [exponent, mantissa] = [byte >>> 3, byte & 7];
    return exponent === 0 ? (mantissa / 8) * 2 ** -6 : (1 + mantissa / 8) * 2 ** (exponent - 7);
  });
  const size = Math.abs(value);
  const best = magnitudes.reduce((a, b, byte) => {
    const [near, far] = [Math.abs(size - (magnitudes[a] as number)), Math.abs(size - b)];
    return far < near || (far === near && byte % 2 === 0) ? byte : a;
  }, 0);
  return (value < 0 ? -1 : 1) * (magnitudes[best] as number);
}

describe('numbers of stored KV', () => {
  test('int8 and int4: codes are number over factor in f32, to nearest, ties to even', () => {
    fc.assert(
      fc.property(rows, fc.constantFrom('int8' as const, 'int4' as const), (row, dtype) => {
        const { out, factors } = roundTrip(dtype, row);
        const largest = LARGEST_CODE[dtype];
        const magnitude = row.reduce((most, value) => Math.max(most, Math.abs(value)), LEAST_MAGNITUDE);
        const factor = toBf16(Math.fround(magnitude / largest));
        expect(factors[0]).toBe(factor);
        for (const [i, value] of row.entries()) {
          const code = Math.max(-largest, Math.min(largest, nearestEven(Math.fround(value / factor))));
          expect(out[i]).toBe(Math.fround(code * factor) + 0);
        }
      }),
      { numRuns: 3000 },
    );
  });

  test('f8e4m3: the nearest number, ties to even, also when scaled', () => {
    fc.assert(
      fc.property(rows, fc.constantFrom(1, 0.25, 0.3), (row, scale) => {
        const { out } = roundTrip('f8e4m3', row, scale);
        for (const [i, value] of row.entries())
          expect(Math.abs((out[i] as number) - Math.fround(nearestF8(Math.fround(value / scale)) * scale))).toBe(0);
      }),
      { numRuns: 1000 },
    );
  });

  test('bf16 and f16: as Node converts, and NaN stays NaN', () => {
    fc.assert(
      fc.property(rows, (row) => {
        expect(roundTrip('f16', row).out).toEqual(new Float32Array(Float16Array.from(row)));
        expect(roundTrip('bf16', row).out).toEqual(Float32Array.from(row, toBf16));
      }),
    );
    for (const dtype of ['bf16', 'f16', 'f8e4m3'] as const)
      expect(roundTrip(dtype, [Number.NaN, 1, Number.NaN, 2, 3, 4, 5, Number.NaN]).out).toEqual(
        Float32Array.from([Number.NaN, 1, Number.NaN, 2, 3, 4, 5, Number.NaN]),
      );
  });
});
