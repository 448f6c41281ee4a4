/**
 * Rotary position embedding: angular frequencies (radians per token) of each rotated pair, computed in f64, and the factors
 * that scaled variants put on cos, sin and the attention scale.
 * Formulas: Hugging Face transformers, modeling_rope_utils.py; YaRN: arXiv 2309.00071.
 */
import { fail } from '@causeway/errors';
import type { ModelConfig } from '@causeway/model-files';
import type { WeightLibrary, WeightRef } from './weight-library.ts';

export type RopeConfig = ModelConfig['rope'];

/** theta^(-2i/width) for each of width / 2 pairs. */
function plainFrequencies(theta: number, width: number): number[] {
  return Array.from({ length: width / 2 }, (_, i) => theta ** (-(2 * i) / width));
}

/** Llama 3.1: long wavelengths are slowed by `factor`, short ones kept, those between blended. */
function llama3(rope: Extract<RopeConfig, { type: 'llama3' }>, width: number): number[] {
  const { factor, lowFreqFactor: low, highFreqFactor: high, originalContextLength: original } = rope;
  return plainFrequencies(rope.theta, width).map((frequency) => {
    const wavelength = (2 * Math.PI) / frequency;
    if (wavelength < original / high) return frequency;
    if (wavelength > original / low) return frequency / factor;
    const smooth = (original / wavelength - low) / (high - low);
    return frequency * ((1 - smooth) / factor + smooth);
  });
}

/** YaRN: pairs that turn less than `betaSlow` times over the original context are interpolated, more than `betaFast` kept. */
function yarn(rope: Extract<RopeConfig, { type: 'yarn' }>, width: number): number[] {
  const pairOfTurns = (turns: number): number =>
    (width * Math.log(rope.originalContextLength / (turns * 2 * Math.PI))) / (2 * Math.log(rope.theta));
  const low = Math.max(Math.floor(pairOfTurns(rope.betaFast)), 0);
  const highest = Math.min(Math.ceil(pairOfTurns(rope.betaSlow)), width - 1);
  const high = highest === low ? highest + 0.001 : highest;
  return plainFrequencies(rope.theta, width).map((frequency, i) => {
    const ramp = Math.min(Math.max((i - low) / (high - low), 0), 1);
    return (frequency / rope.factor) * ramp + frequency * (1 - ramp);
  });
}

/** Frequencies of the width / 2 pairs of a rotated part of `width` channels. */
export function ropeFrequencies(rope: RopeConfig, width: number): number[] {
  switch (rope.type) {
    case 'default':
      return plainFrequencies(rope.theta, width);
    case 'linear':
      return plainFrequencies(rope.theta, width).map((frequency) => frequency / rope.factor);
    case 'llama3':
      return llama3(rope, width);
    case 'yarn':
      return yarn(rope, width);
    default:
      return fail('unimplemented', 'unsupported_format', `RoPE scaling ${JSON.stringify(rope)} is not supported`);
  }
}

/** YaRN's temperature: 0.1 * mscale * ln(factor) + 1. */
function temperature(factor: number, mscale: number): number {
  return factor <= 1 ? 1 : 0.1 * mscale * Math.log(factor) + 1;
}

/** What cos and sin are multiplied by: 1 unless YaRN. */
export function rotaryFactor(rope: RopeConfig): number {
  if (rope.type !== 'yarn') return 1;
  if (rope.attentionFactor !== undefined) return rope.attentionFactor;
  if (rope.mscale !== undefined && rope.mscaleAllDim !== undefined && rope.mscale !== 0 && rope.mscaleAllDim !== 0) {
    return temperature(rope.factor, rope.mscale) / temperature(rope.factor, rope.mscaleAllDim);
  }
  return temperature(rope.factor, 1);
}

/** What DeepSeek multiplies the attention scale by: the squared temperature of mscale_all_dim, 1 without YaRN. */
export function attentionScaleFactor(rope: RopeConfig): number {
  if (rope.type !== 'yarn' || rope.mscaleAllDim === undefined || rope.mscaleAllDim === 0) return 1;
  return temperature(rope.factor, rope.mscaleAllDim) ** 2;
}

/** llama.cpp writes the scaling of Llama 3 into GGUF files as one divisor per pair instead of parameters. */
const FREQUENCY_DIVISORS = 'rope_freqs.weight';

/** cos and sin tables [contextLength, width / 2] as weights, made once per model. */
export function rotaryTables(library: WeightLibrary, config: ModelConfig, width: number): { cos: WeightRef; sin: WeightRef } {
  const frequencies = ropeFrequencies(config.rope, width);
  const divisors = library.has(FREQUENCY_DIVISORS) ? library.numbers(FREQUENCY_DIVISORS, width / 2) : undefined;
  const divided = frequencies.map((frequency, i) => frequency / (divisors?.[i] ?? 1));
  return library.rotary('rope', divided, config.contextLength, rotaryFactor(config.rope));
}
