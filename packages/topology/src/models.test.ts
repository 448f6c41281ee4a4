import { expect, describe, test } from 'vitest';
import { parse } from 'yaml';
import {
  defaultTopology,
  defaultTopologyOf,
  modelsOf,
  parseTopology,
  renderCompose,
  renderProcesses,
  type Topology,
  withModels,
} from './index.ts';
import { shardMemory, workerKvBudget } from './memory-share.ts';

const GIB = 1024 ** 3;

function of(text: string): Topology {
  return parseTopology(`version: 1\n${text}`, 'test.yaml');
}

const TWO = of(
  'model: a\npools:\n  - {name: p, role: prefill}\n  - {name: d, role: decode, count: 2}\n  - {name: q, role: prefill, model: b}\n  - {name: e, role: decode, model: b}',
);

const ONE_EACH = of('pools: [{name: router, role: router}, {name: prefill, role: prefill}, {name: decode, role: decode}]');

describe('a topology of several models', () => {
  const models = new Map([
    ['a', { name: 'model a', path: '/a' }],
    ['b', { name: 'b:latest', path: '/b' }],
  ]);
  const processes = renderProcesses(TWO, {
    models,
    machineCores: 16,
    machineBytes: 8 * GIB,
    natsUrl: 'nats://n',
    natsMonitoringUrl: 'http://n:8222',
    natsPassword: () => 'x',
    redisUrl: 'redis://r',
    host: '127.0.0.1',
    advertiseHost: () => '127.0.0.1',
    ports: () => ({ rpc: 0, observability: 0, http: 0, grpc: 0 }),
  });

  test('gives each worker its model, and the router all of them', () => {
    expect(modelsOf(TWO)).toEqual(['a', 'b']);
    const [router, ...workers] = processes;
    expect(JSON.parse(router?.env['CAUSEWAY_MODEL_PATHS'] ?? '')).toEqual({ 'model a': '/a', 'b:latest': '/b' });
    expect(router?.env['CAUSEWAY_MODEL_PATH']).toBeUndefined();
    expect(workers.map(({ name, model, env }) => [name, model, env['CAUSEWAY_MODEL_NAME'], env['CAUSEWAY_MODEL_PATH']])).toEqual([
      ['p', 'model a', 'model a', '/a'],
      ['q', 'b:latest', 'b:latest', '/b'],
      ['d-0', 'model a', 'model a', '/a'],
      ['d-1', 'model a', 'model a', '/a'],
      ['e', 'b:latest', 'b:latest', '/b'],
    ]);
  });

  test('shares cores and memory among all workers', () => {
    const workers = processes.slice(1);
    expect(workers.map(({ env }) => env['CAUSEWAY_THREADS'])).toEqual(['3', '3', '3', '3', '3']);
    expect(new Set(workers.map(({ env }) => env['CAUSEWAY_KV_BUDGET_BYTES']))).toEqual(
      new Set([String(Math.floor((4 * GIB) / 5))]),
    );
  });

  test('mounts each model where its processes look for it', () => {
    const table = new Map([
      ['a', { name: 'model a', path: './models/a' }],
      ['b', { name: 'b:latest', path: '/srv/b.gguf' }],
    ]);
    const { services } = parse(renderCompose(TWO, table)) as {
      services: Record<string, { volumes: string[]; environment: Record<string, string> }>;
    };
    expect(services['router']?.volumes).toEqual(['./models/a:/models/0:ro', '/srv/b.gguf:/models/1:ro']);
    expect(services['router']?.environment['CAUSEWAY_MODEL_PATHS']).toBe('{"model a":"/models/0","b:latest":"/models/1"}');
    expect(services['e']?.volumes).toEqual(['/srv/b.gguf:/models/1:ro']);
    expect(services['e']?.environment).toMatchObject({ CAUSEWAY_MODEL_PATH: '/models/1', CAUSEWAY_MODEL_NAME: 'b:latest' });
  });
});

describe('models of the command line', () => {
  test('one takes the place of what the topology names', () => {
    const changed = withModels(TWO, ['z']);
    expect(modelsOf(changed)).toEqual(['z']);
    expect(changed.pools.map(({ name }) => name)).toEqual(TWO.pools.map(({ name }) => name));
  });

  test('of several each gets the worker pools, under names of their own', () => {
    const words = ['hf:Acme/Tiny_Model', './x/tiny-model.gguf', '日本'];
    const changed = withModels(ONE_EACH, words);
    expect(modelsOf(changed)).toEqual(words);
    expect(changed.pools.map(({ name }) => name)).toEqual([
      'router',
      'tiny-model-prefill',
      'tiny-model-prefill-2',
      'model-prefill',
      'tiny-model-decode',
      'tiny-model-decode-2',
      'model-decode',
    ]);
  });

  test('several are refused where the topology says which pool serves which, or binds cores', () => {
    expect(() => withModels(TWO, ['x', 'y'])).toThrow(/the topology says which pool serves which model; leave --model out/);
    const bound = of('pools: [{name: d, role: decode, cores: 0-1}]');
    expect(() => withModels(bound, ['x', 'y'])).toThrow(/pool d has cores of its own/);
    expect(modelsOf(withModels(bound, ['x']))).toEqual(['x']);
  });
});

describe('the built-in topology with --model', () => {
  const pools = (words: readonly string[], experts: readonly string[]): [string, number][] =>
    defaultTopologyOf(words, (word) => experts.includes(word)).pools.map(({ name, count }) => [name, count]);

  test('is itself for the built-in model, and with none', () => {
    for (const words of [[], ['tiny-moe']]) expect(defaultTopologyOf(words, () => true)).toEqual(defaultTopology());
  });

  test('has one worker of a kind for another model, and shards where it has experts', () => {
    expect(pools(['dense'], [])).toEqual([
      ['router', 1],
      ['prefill', 1],
      ['decode', 1],
    ]);
    expect(pools(['moe'], ['moe'])).toEqual([
      ['router', 1],
      ['prefill', 1],
      ['decode', 1],
      ['expert', 2],
    ]);
    expect(pools(['dense', 'moe'], ['moe'])).toEqual([
      ['router', 1],
      ['dense-prefill', 1],
      ['moe-prefill', 1],
      ['dense-decode', 1],
      ['moe-decode', 1],
      ['moe-expert', 2],
    ]);
  });
});

test('shards that say nothing share a third of a large machine; what is set is kept', () => {
  const topology = of(
    'pools: [{name: d, role: decode}, {name: e, role: expert, count: 2}, {name: f, role: expert, memory: 10GiB}]',
  );
  const memory = (machine: number | undefined): (number | undefined)[] =>
    topology.pools.flatMap((pool) => (pool.role === 'expert' ? [shardMemory(topology, pool, machine)] : []));
  expect(memory(undefined)).toEqual([undefined, 10 * GIB]);
  expect(memory(16 * GIB)).toEqual([undefined, 10 * GIB]);
  expect(memory(96 * GIB)).toEqual([11 * GIB, 10 * GIB]);
});

test.each([
  [undefined, undefined],
  [64 * GIB, undefined],
  [8 * GIB, undefined],
  [4 * GIB, GIB],
  [0.1 * GIB, 64 * 1024 ** 2],
])('with %s bytes of memory each of two workers that say nothing keeps %s for KV', (machine, budget) => {
  for (const pool of ONE_EACH.pools)
    if (pool.role !== 'router' && pool.role !== 'expert') expect(workerKvBudget(ONE_EACH, pool, machine)).toBe(budget);
});

test('a budget that is set is kept, and taken off what is shared', () => {
  const topology = of('pools:\n  - {name: p, role: prefill, kvBudget: 3GiB}\n  - {name: d, role: decode, count: 2}');
  const budgets = topology.pools.map((pool) =>
    pool.role === 'router' || pool.role === 'expert' ? 0 : workerKvBudget(topology, pool, 8 * GIB),
  );
  expect(budgets).toEqual([3 * GIB, GIB / 2]);
});
