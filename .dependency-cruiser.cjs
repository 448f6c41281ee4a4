/** Rules of the layout: who may import whom. `pnpm deps` and CI run them. */
const test = '\\.test\\.ts$|/testing/';
// Where messages of the wire become domain types, and nowhere else.
const edges = [
  '^packages/(proto|rpc|kv-transport|experts|worker-runtime|testkit)/',
  '^services/(router|prefill|decode|expert)/src/',
  '^services/cli/src/verify/',
  '^tests/',
  test,
];

module.exports = {
  forbidden: [
    {
      name: 'no-circular',
      comment: 'Modules that need each other are one module, or need a third. Types are erased, and may.',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    {
      name: 'services-never-import-services',
      comment: 'Services are processes: they talk through proto/, NATS and Redis.',
      severity: 'error',
      from: { path: '^services/([^/]+)/' },
      to: { path: '^services/([^/]+)/', pathNot: '^services/$1/' },
    },
    {
      name: 'packages-never-import-services',
      severity: 'error',
      from: { path: '^packages/' },
      to: { path: '^(services|tests)/' },
    },
    {
      name: 'nothing-imports-tests',
      severity: 'error',
      from: { path: '^(packages|services)/' },
      to: { path: '^tests/' },
    },
    {
      name: 'packages-by-their-door',
      comment:
        'Another package is imported through its exports (src/index.ts, src/internal.ts, the NATS subjects, the placing of experts), never by a path into it.',
      severity: 'error',
      from: { path: '^(packages/[^/]+|services/[^/]+|tests)/' },
      to: { path: '^packages/[^/]+/src/', pathNot: ['^$1/', '^packages/[^/]+/src/(index|internal|subjects|placing)\\.ts$'] },
    },
    {
      name: 'generated-code-at-the-edges',
      comment: 'Messages of the wire are converted where they come in; domain code does not know them.',
      severity: 'error',
      from: { path: '^(packages|services|tests)/', pathNot: edges },
      to: { path: '^packages/proto/' },
    },
    {
      name: 'no-code-of-tests-in-products',
      severity: 'error',
      from: { path: '^(packages|services)/', pathNot: test },
      to: { path: '\\.test\\.ts$' },
    },
    {
      name: 'no-unresolvable',
      comment: 'pnpm links a package only what its own package.json declares: an undeclared dependency does not resolve.',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^packages/proto/src/gen/' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'require', 'node', 'default', 'types'] },
  },
};
