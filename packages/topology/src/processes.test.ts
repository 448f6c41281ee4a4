import { describe, expect, test } from 'vitest';
import { parseTopology, type Placement, renderNatsConfig, renderProcesses, type Topology, workerThreads } from './index.ts';

const placement: Placement = {
  models: new Map([['tiny-moe', { name: 'm', path: '/models/m' }]]),
  machineCores: 8,
  natsUrl: 'nats://127.0.0.1:4222',
  natsMonitoringUrl: 'http://127.0.0.1:8222',
  natsPassword: (worker: string) => `secret of ${worker}`,
  redisUrl: 'redis://127.0.0.1:6379',
  host: '127.0.0.1',
  advertiseHost: () => '127.0.0.1',
  ports: (_name, _role, index) => ({ rpc: 0, observability: 9100, http: index === 0 ? 8000 : 0, grpc: index === 0 ? 50_051 : 0 }),
};

function topology(pools: string): Topology {
  return parseTopology(`version: 1\npools:\n${pools}`, 'test.yaml');
}

describe('processes of a topology', () => {
  test('a prefill worker is told its layer groups', () => {
    const pools = '  - {name: p, role: prefill, layerGroups: 4}\n  - {name: d, role: decode}';
    const groups = renderProcesses(topology(pools), placement).map(({ env }) => env.CAUSEWAY_LAYER_GROUPS);
    expect(groups).toEqual([undefined, '4', undefined]);
  });

  test('a worker gets exactly what its pool says, and nothing for what it leaves out', () => {
    const [, worker] = renderProcesses(
      topology(
        '  - {name: d, role: decode, threads: 3, kvBudget: 1MiB, kvDtype: f16, codec: planes+zstd, precision: exact, lease: 5s, maxSequences: 4}',
      ),
      placement,
    );
    expect(worker).toMatchObject({ name: 'd', role: 'decode', entry: 'services/decode/src/main.ts' });
    expect(worker?.env).toEqual({
      CAUSEWAY_NATS_URL: 'nats://127.0.0.1:4222',
      CAUSEWAY_NATS_MONITORING_URL: 'http://127.0.0.1:8222',
      CAUSEWAY_REDIS_URL: 'redis://127.0.0.1:6379',
      CAUSEWAY_LOG_LEVEL: 'info',
      CAUSEWAY_HOST: '127.0.0.1',
      CAUSEWAY_ADVERTISE_HOST: '127.0.0.1',
      CAUSEWAY_OBSERVABILITY_PORT: '9100',
      CAUSEWAY_DRAIN_MS: '30000',
      CAUSEWAY_MODEL_PATH: '/models/m',
      CAUSEWAY_MODEL_NAME: 'm',
      CAUSEWAY_NATS_USER: 'd',
      CAUSEWAY_NATS_PASSWORD: 'secret of d',
      UV_THREADPOOL_SIZE: '8',
      CAUSEWAY_WORKER_ID: 'd',
      CAUSEWAY_RPC_PORT: '0',
      CAUSEWAY_CHIP: 'cpu',
      CAUSEWAY_THREADS: '3',
      CAUSEWAY_KV_BUDGET_BYTES: '1048576',
      CAUSEWAY_KV_DTYPE: 'f16',
      CAUSEWAY_KV_CODEC: 'planes+zstd',
      CAUSEWAY_PRECISION: 'exact',
      CAUSEWAY_LEASE_MS: '5000',
      CAUSEWAY_MAX_SEQUENCES: '4',
    });
  });

  test('a topology without a router gets one, and routers come first', () => {
    const specs = renderProcesses(topology('  - {name: d, role: decode}\n  - {name: p, role: prefill, count: 2}'), placement);
    expect(specs.map((spec) => spec.name)).toEqual(['router', 'p-0', 'p-1', 'd']);
    expect(specs[0]?.env).toMatchObject({ CAUSEWAY_HTTP_PORT: '8000', CAUSEWAY_GRPC_PORT: '50051' });
  });

  test('a router pool that takes the name of the default has its own options', () => {
    const specs = renderProcesses(
      topology(
        '  - {name: r, role: router, count: 2, placement: local, maxBody: 2MiB, chatTemplate: /t/chat.jinja, toolParser: hermes, reasoningParser: think}\n  - {name: d, role: decode}',
      ),
      placement,
    );
    expect(specs.map((spec) => spec.env['CAUSEWAY_HTTP_PORT'])).toEqual(['8000', '0', undefined]);
    expect(specs[1]?.env).toMatchObject({
      CAUSEWAY_PLACEMENT: 'local',
      CAUSEWAY_MAX_BODY_BYTES: '2097152',
      CAUSEWAY_CHAT_TEMPLATE: '/t/chat.jinja',
      CAUSEWAY_TOOL_PARSER: 'hermes',
      CAUSEWAY_REASONING_PARSER: 'think',
    });
  });

  test('cores are dealt out to the workers of a pool, the last takes the rest', () => {
    const specs = renderProcesses(topology('  - {name: d, role: decode, count: 2, cores: "0-4,9"}'), placement).slice(1);
    expect(specs.map((spec) => spec.cores)).toEqual([
      [0, 1, 2],
      [3, 4, 9],
    ]);
    expect(specs.map((spec) => spec.env['CAUSEWAY_THREADS'])).toEqual(['3', '3']);
  });
});

describe('threads of a worker', () => {
  const two = topology('  - {name: p, role: prefill}\n  - {name: d, role: decode}');
  test.each([
    [1, 1],
    [2, 1],
    [4, 1],
    [8, 3],
    [16, 7],
    [64, 31],
  ])('on %i cores two workers that say nothing get %i each', (machine, expected) => {
    expect(two.pools.map((pool) => (pool.role === 'router' ? 0 : workerThreads(two, pool, machine)))).toEqual([
      expected,
      expected,
    ]);
  });

  test('where the machine is not known, as in containers, it is one; what is said stays', () => {
    const pools = topology(
      '  - {name: p, role: prefill, threads: auto, count: 3}\n  - {name: d, role: decode, threads: 5}',
    ).pools;
    expect(pools.map((pool) => (pool.role === 'router' ? 0 : workerThreads(two, pool, undefined)))).toEqual([1, 5]);
  });

  test('what others claim is not shared again', () => {
    const mixed = topology(
      '  - {name: p, role: prefill, threads: 4}\n  - {name: d, role: decode, count: 2}\n  - {name: e, role: decode, cores: 0-2}',
    );
    expect(mixed.pools.map((pool) => (pool.role === 'router' ? 0 : workerThreads(mixed, pool, 16)))).toEqual([4, 4, 3]);
  });
});

describe('the configuration of nats-server', () => {
  test('knows every worker by name, and no router', () => {
    const of = topology('  - {name: p, role: prefill}\n  - {name: d, role: decode, count: 2}');
    const config = renderNatsConfig(of, renderProcesses(of, placement), {
      listen: '127.0.0.1:4222',
      http: '127.0.0.1:8222',
      password: (worker) => JSON.stringify(`secret of ${worker}`),
    });
    expect([...config.matchAll(/user: "([^"]+)"/g)].map((match) => match[1])).toEqual(['p', 'd-0', 'd-1']);
    expect(config).toContain('user: "d-1", password: "secret of d-1"');
    expect(config).toContain('subscribe: ["causeway.v1.kv.d-1.>","causeway.v1.kvctl.d-1.>"]');
  });
});
