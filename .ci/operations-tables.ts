// Tables of settings and metrics in docs/operations.md, from the code that reads and exports them. `--write` renews them; without it
// exit code 1 when they are not up to date.
import { readFileSync, writeFileSync } from 'node:fs';
import { configTable } from '../packages/config/src/index.ts';
import { METRICS } from '../packages/telemetry/src/index.ts';
import { workerConfig } from '../packages/worker-runtime/src/config.ts';
import { cliConfig } from '../services/cli/src/config.ts';
import { routerConfig } from '../services/router/src/config.ts';

const FILE = new URL('../docs/operations.md', import.meta.url);

const metrics = [
  '| metric | kind | labels | meaning |',
  '| --- | --- | --- | --- |',
  ...Object.values(METRICS).map(({ name, kind, labels, help }) => {
    const names = labels.map((label) => `\`${label}\``).join(', ');
    return `| \`${name}\` | ${kind} | ${names} | ${help.replaceAll('|', '\\|')} |`;
  }),
  '',
].join('\n');

/** The command line has options of its own: these are read from the environment alone. */
const cliSettings = [
  '| variable | meaning |',
  '| --- | --- |',
  ...Object.values(cliConfig).map(({ env, doc }) => `| \`${env}\` | ${doc.replaceAll('|', '\\|')} |`),
  '',
].join('\n');

const tables = new Map([
  ['command settings', cliSettings],
  ['router settings', configTable(routerConfig)],
  ['worker settings', configTable(workerConfig)],
  ['metrics', metrics],
]);

const text = readFileSync(FILE, 'utf8');
const renewed = text.replaceAll(/<!-- ([a-z ]+) -->\n[^]*?<!-- end -->/g, (whole, name: string) => {
  const table = tables.get(name);
  tables.delete(name);
  return table === undefined ? whole : `<!-- ${name} -->\n${table}<!-- end -->`;
});
if (tables.size > 0) throw new Error(`docs/operations.md has no place for: ${[...tables.keys()].join(', ')}`);
if (process.argv.includes('--write')) writeFileSync(FILE, renewed);
else if (renewed !== text) {
  console.log('docs/operations.md is not up to date: run node .ci/operations-tables.ts --write');
  process.exitCode = 1;
}
