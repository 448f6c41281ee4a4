/** Values of options, checked as Commander reads them. */
import { InvalidArgumentError } from 'commander';

/** A whole number from `min` to `max`. */
export function integer(min: number, max: number) {
  return (text: string): number => {
    const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
    if (value >= min && value <= max) return value;
    throw new InvalidArgumentError(`must be a whole number from ${min} to ${max}.`);
  };
}

/** Whole numbers from `min` to `max` with commas between them, each once, in ascending order. */
export function integers(min: number, max: number) {
  const one = integer(min, max);
  return (text: string): number[] => [...new Set(text.split(',').map((word) => one(word.trim())))].sort((a, b) => a - b);
}

/** A number from `min` to `max`. */
export function decimal(min: number, max: number) {
  return (text: string): number => {
    const value = text.trim() === '' ? Number.NaN : Number(text);
    if (value >= min && value <= max) return value;
    throw new InvalidArgumentError(`must be a number from ${min} to ${max}.`);
  };
}

/** One of some words. */
export function oneOf<T extends string>(...words: readonly T[]) {
  return (text: string): T => {
    const word = words.find((candidate) => candidate === text);
    if (word !== undefined) return word;
    throw new InvalidArgumentError(`must be ${words.join(' or ')}.`);
  };
}
