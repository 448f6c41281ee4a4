/** Largest token id that the wire carries. */
const MAX_TOKEN_ID = 0xffff_ffff;

/** Index of the first value that is no token id. A plain loop: a schema would make an object per id. */
export function badTokenId(values: readonly unknown[]): number | undefined {
  const bad = values.findIndex((id) => typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id > MAX_TOKEN_ID);
  return bad === -1 ? undefined : bad;
}
