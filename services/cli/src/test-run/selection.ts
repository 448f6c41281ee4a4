/** `-t PATTERN` in its spellings. */
const FLAG = /^(?:-t|--testNamePattern|--test-name-pattern)(?:=(.*))?$/s;

/** Whether vitest's arguments ask for the test of this full name (as vitest joins it, with " > "). Without a pattern they ask for all. */
export function selectedTests(args: readonly string[]): (name: string) => boolean {
  let pattern: string | undefined;
  for (const [index, word] of args.entries()) {
    const match = FLAG.exec(word);
    if (match !== null) pattern = match[1] ?? args[index + 1] ?? '';
  }
  if (pattern === undefined || pattern === '') return () => true;
  const expression = new RegExp(pattern);
  return (name) => expression.test(name);
}
