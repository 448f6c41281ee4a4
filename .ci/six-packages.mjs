// The six packages that this project is built on are the ones in use: declared, imported by what ships (vitest: by the tests),
// and without a rival beside them. Prints one line for each; exit code 1 when one is missing.
import { globSync, readFileSync } from 'node:fs';

const SIX = ['@grpc/grpc-js', 'ioredis', 'nats', 'prom-client', 'onnxruntime-node', 'vitest'];
/** Packages that would do the same work instead. */
const RIVALS = /^(@nats-io\/|@connectrpc\/|grpc$|redis$|@redis\/|@prometheus-io\/|onnxruntime-web$|jest$|mocha$)/;

const manifests = globSync(['package.json', 'packages/*/package.json', 'services/*/package.json', 'tests/package.json']);
const declared = new Map();
for (const file of manifests) {
  const { dependencies = {}, devDependencies = {} } = JSON.parse(readFileSync(file, 'utf8'));
  for (const name of Object.keys({ ...dependencies, ...devDependencies }))
    declared.set(name, [...(declared.get(name) ?? []), file]);
}

const sources = globSync(['packages/*/src/**/*.ts', 'services/*/src/**/*.ts', 'tests/**/*.test.ts'], {
  exclude: (name) => name === 'node_modules',
});
const importers = new Map(SIX.map((name) => [name, []]));
for (const file of sources) {
  const isTest = file.endsWith('.test.ts') || file.startsWith('tests/') || file.startsWith('packages/testkit/');
  const text = readFileSync(file, 'utf8');
  for (const name of SIX) {
    // vitest is the one that only tests import; the others must be imported by code that ships.
    if ((name === 'vitest') !== isTest) continue;
    const quoted = name.replaceAll('/', '\\/');
    const imported = new RegExp(`(from |import |import\\(|resolve\\()['"]${quoted}(/[^'"]*)?['"]`).test(text);
    if (imported) importers.get(name).push(file);
  }
}

let bad = 0;
for (const name of SIX) {
  const files = importers.get(name);
  const ok = declared.has(name) && files.length > 0;
  if (!ok) bad += 1;
  const where =
    files.length === 0
      ? 'imported nowhere'
      : `imported by ${files.length} file${files.length === 1 ? '' : 's'}, such as ${files[0]}`;
  console.log(`${ok ? 'ok ' : 'BAD'} ${name}: ${declared.has(name) ? 'declared' : 'not declared'}, ${where}`);
}
for (const [name, files] of declared) {
  if (!RIVALS.test(name)) continue;
  bad += 1;
  console.log(`BAD ${name} is declared by ${files.join(', ')}: one of the six does its work`);
}
process.exitCode = bad === 0 ? 0 : 1;
