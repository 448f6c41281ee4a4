/** Moves runs of bytes that lie at equal distances. */

/** Copies `count` runs of `bytes` bytes, a multiple of 4: they begin `fromStride` and `toStride` bytes apart. */
export function copyRuns(from: usize, to: usize, count: usize, bytes: usize, fromStride: usize, toStride: usize): void {
  const vectors = bytes & ~15;
  for (; count > 0; count--) {
    let i: usize = 0;
    for (; i < vectors; i += 16) v128.store(to + i, v128.load(from + i));
    for (; i < bytes; i += 4) store<u32>(to + i, load<u32>(from + i));
    from += fromStride;
    to += toStride;
  }
}
