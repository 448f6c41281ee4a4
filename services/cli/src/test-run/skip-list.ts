/** Tests that may be skipped: `tests/skips.txt`, one `name :: reason` per line, `#` begins a comment. The name is a test's full name. */
export interface SkipList {
  /** Reason by full test name. */
  reasons: ReadonlyMap<string, string>;
  /** Lines that are not `name :: reason`. */
  problems: readonly string[];
}

export function parseSkipList(text: string): SkipList {
  const reasons = new Map<string, string>();
  const problems: string[] = [];
  for (const [index, raw] of text.split('\n').entries()) {
    const line = raw.trim();
    if (line === '' || line.startsWith('#')) continue;
    const cut = line.indexOf(' :: ');
    const [name, reason] = cut === -1 ? ['', ''] : [line.slice(0, cut).trim(), line.slice(cut + 4).trim()];
    if (name === '' || reason === '') problems.push(`line ${index + 1} is not "test name :: reason": ${line}`);
    else reasons.set(name, reason);
  }
  return { reasons, problems };
}
