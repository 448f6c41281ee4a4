/** Workers for this package's tests: a page pool and an endpoint on a real NATS server. */
import { fingerprint, type Fingerprint, type KvDescriptor, type KvDtype, type LayerGeometry, PagePool } from '@causeway/kv';
import { KvEndpoint } from './endpoint.ts';
import type { KvEndpointOptions } from './endpoint-options.ts';

export function makeDescriptor(layers: readonly LayerGeometry[], dtype: KvDtype, blockTokens: number): KvDescriptor {
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

/** Fills memory with numbers distributed like KV: normal, with a different scale in every channel. */
export function smoothKv(bytes: Uint8Array, dtype: KvDtype, seed = 1): void {
  let state = seed >>> 0 || 1;
  const random = () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return (state >>> 8) / 0x100_0000;
  };
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const size = dtype === 'f32' ? 4 : 2;
  const float = new DataView(new ArrayBuffer(4));
  for (let i = 0; i < bytes.length / size; i++) {
    const scale = 0.25 + ((i % 64) / 64) * 2;
    const value = scale * (random() + random() + random() + random() - 2);
    float.setFloat32(0, value, true);
    if (dtype === 'f32') view.setUint32(i * 4, float.getUint32(0, true), true);
    else if (dtype === 'bf16') view.setUint16(i * 2, float.getUint32(0, true) >>> 16, true);
    else view.setUint16(i * 2, Math.round((value + 8) * 2048) & 0x7fff, true);
  }
}
