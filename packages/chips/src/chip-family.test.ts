import { describe, expect, it } from 'vitest';
import { chipFamily, chipStorage } from './chip-family.ts';

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
    expect(() => chipFamily('abacus')).toThrow(/unknown chip family "abacus"; known: cpu/);
  });
  it('refuses a block length that the family does not have', () => {
    expect(() => chipStorage(chipFamily('cpu'), { blockTokens: 17 })).toThrow(/no blocks of 17 tokens/);
  });
});
