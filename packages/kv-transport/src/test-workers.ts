/** Workers for this package's tests: a page pool and an endpoint on a real NATS server. */
import { fingerprint, type Fingerprint, type KvDescriptor, type FloatDtype, type LayerGeometry, PagePool } from '@causeway/kv';
import { syntheticKv } from '@causeway/kv/internal';
import { KvEndpoint } from './endpoint.ts';
import type { KvEndpointOptions } from './endpoint-options.ts';

export function makeDescriptor(layers: readonly LayerGeometry[], dtype: FloatDtype, blockTokens: number): KvDescriptor {
  return { version: 1, layers, storage: { dtype, layout: 'NHD', blockTokens, shards: { count: 1, index: 0 } } };
}

export function makeFingerprint(descriptor: KvDescriptor, weights = 'a'): Fingerprint {
  return fingerprint({
    architecture: 'llama',
    weightsHash: weights,
    tokenizerHash: 't',
    rope: { theta: 1e4 },
    layers: descriptor.layers,
  });
}

export interface TestWorker extends AsyncDisposable {
  pool: PagePool;
  endpoint: KvEndpoint;
}

/** An endpoint over a pool of its own; disposing closes both. */
export async function makeWorker(
  options: Pick<KvEndpointOptions, 'servers' | 'workerId' | 'codec'> &
    Partial<KvEndpointOptions> & { descriptor: KvDescriptor; pages: number },
): Promise<TestWorker> {
  const { pages, descriptor, ...rest } = options;
  const pool = new PagePool({ descriptor, pageCount: pages });
  const endpoint = await KvEndpoint.connect({ pool, descriptor, fingerprint: makeFingerprint(descriptor), chip: 'cpu', ...rest });
  return {
    pool,
    endpoint,
    [Symbol.asyncDispose]: async () => {
      await endpoint[Symbol.asyncDispose]();
      pool[Symbol.dispose]();
    },
  };
}

const patterns = new Map<string, Uint8Array>();

/** Fills memory with numbers distributed like KV; another seed gives other bytes at every place. Fast: the pattern is made once. */
export function smoothKv(bytes: Uint8Array, dtype: FloatDtype, seed = 1): void {
  const key = `${dtype} ${bytes.length}`;
  const pattern = patterns.get(key) ?? syntheticKv(dtype, bytes.length);
  patterns.set(key, pattern);
  const start = (seed * 7_919 * 4) % bytes.length;
  bytes.set(pattern.subarray(start), 0);
  bytes.set(pattern.subarray(0, start), bytes.length - start);
}
