// oxlint-disable-next-line no-control-regex -- colour codes take no room
const COLOUR = /\u001b\[\d+m/g;

/** Rows as lines of aligned columns, two spaces apart; colours do not count. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const width = (cell: string): number => cell.replace(COLOUR, '').length;
  const widths = header.map((title, column) => Math.max(width(title), ...rows.map((row) => width(row[column] ?? ''))));
  return [header, ...rows].map((row) =>
    row
      .map((cell, column) => cell + ' '.repeat((widths[column] ?? 0) - width(cell)))
      .join('  ')
      .trimEnd(),
  );
}
