/** Where a command writes. Colours only on a terminal, and not when NO_COLOR is set (https://no-color.org). */
export interface Output {
  /** Standard output is a terminal: a line can be drawn anew. */
  readonly terminal: boolean;
  /** Text as it is, on standard output. */
  write(text: string): void;
  line(text?: string): void;
  /** A line on standard error. */
  warn(text: string): void;
  dim(text: string): string;
  bold(text: string): string;
  red(text: string): string;
}

/** What an Output needs of a process. */
export interface Streams {
  stdout: NodeJS.WriteStream;
  stderr: NodeJS.WriteStream;
  env: Readonly<Record<string, string | undefined>>;
}

/** A reader that goes away (`| head`) or a closed terminal must not end a cluster: write errors are ignored. */
export function createOutput({ stdout, stderr, env }: Streams): Output {
  for (const stream of [stdout, stderr]) stream.on('error', () => undefined);
  const paint = (code: number) => {
    const on = stdout.isTTY === true && (env['NO_COLOR'] ?? '') === '';
    return (text: string): string => (on ? `\u001b[${code}m${text}\u001b[0m` : text);
  };
  return {
    terminal: stdout.isTTY === true,
    write: (text) => void stdout.write(text),
    line: (text = '') => void stdout.write(`${text}\n`),
    warn: (text) => void stderr.write(`${text}\n`),
    dim: paint(2),
    bold: paint(1),
    red: paint(31),
  };
}
