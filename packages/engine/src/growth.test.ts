import { describe, expect, it } from 'vitest';
import { AnswerLengths } from './growth.ts';

describe('AnswerLengths', () => {
  it('is the initial guess until eight answers ended, then their 75 % quantile', () => {
    const lengths = new AnswerLengths(128);
    for (const tokens of [10, 20, 30, 40, 50, 60, 70]) lengths.add(tokens);
    expect(lengths.growth).toBe(128);
    lengths.add(80);
    expect(lengths.growth).toBe(60);
  });

  it('forgets all but the last 64', () => {
    const lengths = new AnswerLengths(1);
    for (let i = 0; i < 100; i++) lengths.add(1000);
    for (let i = 0; i < 64; i++) lengths.add(5);
    expect(lengths.growth).toBe(5);
  });
});
