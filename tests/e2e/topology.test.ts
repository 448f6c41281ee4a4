/** A topology file accepts what the processes accept that it is rendered for, and nothing else. */
import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { chipFamily, chipStorage } from '@causeway/chips';
import { DESCRIPTOR_VERSION, KV_CODECS, KV_DTYPES, KV_LAYOUTS, holdsExactly, type LayerGeometry, wireFormOf } from '@causeway/kv';
import { parseTopology } from '@causeway/topology';
import { planKvMemory, workerConfig } from '@causeway/worker-runtime';
import { expect, test } from 'vitest';
import { routerConfig } from '../../services/router/src/config.ts';

function accepted(role: string, field: string, value: unknown): boolean {
  const pools = [{ name: 'pool', role, [field]: value }, ...(role === 'decode' ? [] : [{ name: 'd', role: 'decode' }])];
  try {
    parseTopology(JSON.stringify({ version: 1, pools }), 'cluster.yaml');
    return true;
  } catch {
    return false;
  }
}

/** Around every bound that one of the two may have. */
const NUMBERS = [-1, 0, 1, 3, 4, 15, 16, 1.5]
  .concat([1024, 4096, 65_536, 1_000_000, 16_777_216, 256 * 1024 ** 2].flatMap((bound) => [bound, bound + 1]))
  .concat(2 ** 53);
const milliseconds = [0, 1, 499, 500, 3000, 2_147_483_647, 2_147_483_648];

test.each<[string, keyof typeof workerConfig, readonly unknown[], ((value: unknown) => unknown)?]>([
  ['threads', 'threads', NUMBERS],
  ['kvBudget', 'kvBudgetBytes', [...NUMBERS, '512MiB', 'lots']],
  ['maxContext', 'maxContext', NUMBERS],
  ['maxSequences', 'maxSequences', NUMBERS],
  ['chunkTokens', 'chunkTokens', NUMBERS],
  ['precision', 'precision', ['fast', 'exact', 'rough']],
  ['codec', 'kvCodec', ['auto', ...KV_CODECS, 'gzip']],
  ['chip', 'chip', ['cpu', 'webgpu', 'nvidia', 'ascend', 'cambricon', 'abacus']],
  ['kvLayout', 'kvLayout', [...KV_LAYOUTS, 'NDH']],
  ['lease', 'leaseMs', milliseconds, (ms) => `${String(ms)}ms`],
])('%s of a worker pool has the values of the setting %s', (field, setting, values, spelt = (value) => value) => {
  for (const role of ['prefill', 'decode']) {
    for (const value of values) {
      expect(accepted(role, field, spelt(value)), String(value)).toBe(workerConfig[setting].schema.safeParse(value).success);
    }
  }
});

test('kvDtype of a worker pool has the values of the setting that its chip family stores', () => {
  const stores = (dtype: (typeof KV_DTYPES)[number]): boolean => {
    try {
      chipStorage(chipFamily('cpu'), { dtype });
      return true;
    } catch {
      return false;
    }
  };
  for (const role of ['prefill', 'decode']) {
    for (const dtype of KV_DTYPES) {
      expect(workerConfig.kvDtype.schema.safeParse(dtype).success).toBe(true);
      expect(accepted(role, 'kvDtype', dtype), dtype).toBe(stores(dtype));
    }
    expect(accepted(role, 'kvDtype', 'f64')).toBe(false);
  }
  expect(stores('bf16')).toBe(true);
  expect(workerConfig.kvDtype.schema.safeParse('f64').success).toBe(false);
});

test('layerGroups of a prefill pool has the values of the setting; a decode pool, which would not use it, has none', () => {
  for (const value of NUMBERS) {
    expect(accepted('prefill', 'layerGroups', value), String(value)).toBe(
      workerConfig.layerGroups.schema.safeParse(value).success,
    );
    expect(accepted('decode', 'layerGroups', value)).toBe(false);
  }
});

test.each<[string, keyof typeof routerConfig, readonly unknown[]]>([
  ['placement', 'placement', ['auto', 'disaggregated', 'local', 'x']],
  ['recovery', 'recovery', ['fast', 'exact', 'x']],
  ['localPrefillTokens', 'localPrefillTokens', NUMBERS],
  ['maxQueue', 'maxQueue', NUMBERS],
  ['maxBody', 'maxBodyBytes', NUMBERS],
  ['defaultMaxTokens', 'defaultMaxTokens', NUMBERS],
])('%s of a router pool has the values of the setting %s', (field, setting, values) => {
  for (const value of values) {
    expect(accepted('router', field, value), String(value)).toBe(routerConfig[setting].schema.safeParse(value).success);
  }
});

test('the workers of the example can serve a model of the shape of SmolLM2', () => {
  const file = resolve(import.meta.dirname, '../../deploy/topology.example.yaml');
  const { pools } = parseTopology(readFileSync(file, 'utf8'), file);
  const layers = Array.from({ length: 30 }, (): LayerGeometry => ({ kind: 'full', kvHeads: 3, headDimK: 64, headDimV: 64 }));
  for (const pool of pools) {
    if (pool.role === 'router' || pool.role === 'expert') continue;
    const { kvBudget, maxContext, blockTokens = 16, kvDtype = 'f32' } = pool;
    const memory = planKvMemory({
      budgetBytes: kvBudget ?? 0,
      descriptor: {
        version: DESCRIPTOR_VERSION,
        layers,
        storage: { dtype: kvDtype, layout: 'NHD', blockTokens, shards: { count: 1, index: 0 } },
      },
      modelContext: 8192,
      maxSequences: pool.role === 'prefill' ? 1 : pool.maxSequences,
      maxContext,
    });
    expect(memory.maxContext).toBeGreaterThanOrEqual(2048);
  }
});

test('the topologies that cross chip families name storages that their families have, and rounding where they need it', () => {
  const folder = resolve(import.meta.dirname, '../../topologies');
  const files = readdirSync(folder).filter((file) => file.startsWith('islands'));
  expect(files).toContain('islands.yaml');
  for (const file of files) {
    const { pools } = parseTopology(readFileSync(join(folder, file), 'utf8'), file);
    const stored = (role: string) =>
      pools.flatMap((pool) => {
        if (pool.role !== role || pool.role === 'router' || pool.role === 'expert') return [];
        const { chip, kvDtype: dtype, kvLayout: layout, blockTokens, kvLossy = false } = pool;
        return [{ chip, kvLossy, storage: chipStorage(chipFamily(chip), { dtype, layout, blockTokens }) }];
      });
    const layers: LayerGeometry[] = [{ kind: 'latent', rank: 32, ropeDim: 16 }];
    for (const from of stored('prefill')) {
      for (const to of stored('decode')) {
        expect(from.chip, file).not.toBe(to.chip);
        const exact = holdsExactly(wireFormOf(to.storage), wireFormOf(from.storage), layers);
        expect(exact || (from.kvLossy && to.kvLossy), `${file}: ${from.chip} to ${to.chip}`).toBe(true);
      }
    }
  }
});
