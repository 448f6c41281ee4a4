/** Length of the longest end of `text` that begins, but does not complete, one of `strings`. `longest` is the length of the longest of these. */
export function partialMatch(text: string, strings: readonly string[], longest: number): number {
  for (let length = Math.min(longest - 1, text.length); length > 0; length--) {
    const end = text.slice(text.length - length);
    if (strings.some((string) => string.length > length && string.startsWith(end))) return length;
  }
  return 0;
}
