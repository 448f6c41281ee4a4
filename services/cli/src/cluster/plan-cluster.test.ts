import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from '@causeway/testkit';
import { defaultTopology } from '@causeway/topology';
import { afterAll, expect, test } from 'vitest';
import { runPaths } from '../paths.ts';
import { type ClusterPlan, planCluster, type PlanOptions } from './plan-cluster.ts';

const folder = mkdtempSync(join(tmpdir(), 'causeway-plan-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function plan(name: string, more: Partial<PlanOptions> = {}): Promise<ClusterPlan> {
  return planCluster({
    topology: defaultTopology(),
    models: new Map([['tiny-moe', { name: 'tiny-moe', path: '/nowhere' }]]),
    paths: runPaths(join(folder, name)),
    httpPort: undefined,
    grpcPort: undefined,
    host: '127.0.0.1',
    env: process.env,
    ...more,
  });
}

const ports = ({ services }: ClusterPlan): number[] => services.flatMap((service) => Object.values(service.ports));

test('clusters that are planned at once, before anything of them listens, share no port', async () => {
  await using stack = new AsyncDisposableStack();
  const plans = await Promise.all(['a', 'b', 'c'].map((name) => plan(name)));
  for (const { reserved } of plans) stack.use(reserved);
  const all = plans.flatMap(ports);
  // NATS and Redis, a router, and six processes that compute: each with its ports.
  expect(all).toHaveLength(3 * (2 + 1 + 3 + 6));
  expect(new Set(all).size).toBe(all.length);
  for (const { httpUrl, services } of plans)
    expect(httpUrl).toBe(`http://127.0.0.1:${services.find(({ kind }) => kind === 'router')?.ports['http']}`);
});

test('a port that the user names is taken as soon as another plan has it, and free when that has ended', async () => {
  const httpPort = await freePort();
  const first = await plan('d', { httpPort });
  await expect(plan('e', { httpPort })).rejects.toThrow(`port ${httpPort} (--http-port) is taken`);
  await first.reserved[Symbol.asyncDispose]();
  const second = await plan('e', { httpPort });
  await using _ = second.reserved;
  expect(second.httpUrl).toBe(`http://127.0.0.1:${httpPort}`);
});
