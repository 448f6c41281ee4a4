import type { ConfigFields } from './field.ts';

/** Markdown table of a process's settings, for its README: variable, flag, default, meaning. */
export function configTable(fields: ConfigFields): string {
  const rows = Object.values(fields).map((field) => {
    const value =
      field.default === undefined
        ? field.optional === true
          ? '(none)'
          : '**required**'
        : `\`${JSON.stringify(field.default)}\``;
    const cells = [`\`${field.env}\``, `\`--${field.flag}\``, field.secret === true ? '(hidden)' : value, field.doc];
    return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  });
  return ['| variable | flag | default | meaning |', '| --- | --- | --- | --- |', ...rows, ''].join('\n');
}

/** Text for `--help`: one line per setting. */
export function configHelp(fields: ConfigFields): string {
  const lines = Object.values(fields).map((field) => {
    const value =
      field.default === undefined ? (field.optional === true ? '' : ' (required)') : ` [${JSON.stringify(field.default)}]`;
    return `  --${field.flag} (${field.env})${field.secret === true ? '' : value}\n      ${field.doc}`;
  });
  return ['  --config FILE (CAUSEWAY_CONFIG)\n      YAML or JSON file with any of these settings by name', ...lines, ''].join(
    '\n',
  );
}
