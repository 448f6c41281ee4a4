import { type KvStorage, storageName } from '@causeway/kv';
import { describe, expect, it } from 'vitest';
import type { Engine, GeneratedToken } from './types.ts';
import {
  absent,
  bits,
  generation,
  generate,
  type ModelName,
  never,
  numbers,
  randomIds,
  startEngine,
} from './testing/start-engine.ts';

const one = { count: 1, index: 0 };
const STORAGES: KvStorage[] = [
  { dtype: 'bf16', layout: 'NHD', blockTokens: 16, shards: one },
  { dtype: 'bf16', layout: 'HND', blockTokens: 64, shards: one },
  { dtype: 'f8e4m3', layout: 'HND', blockTokens: 16, shards: one, scale: 0.5 },
  { dtype: 'bf16', layout: 'NZ', blockTokens: 128, shards: one, latent: 'split' },
  { dtype: 'int8', layout: 'NZ', blockTokens: 128, shards: one, latent: 'split' },
  { dtype: 'int8', layout: 'HND', blockTokens: 16, shards: one },
  { dtype: 'int4', layout: 'NHD', blockTokens: 64, shards: one },
  { dtype: 'f32', layout: 'HND', blockTokens: 32, shards: one },
];

/** Prefills in one engine, decodes in the other from a copy of the pages' bytes. */
async function handOver(from: Engine, to: Engine, ids: readonly number[]): Promise<GeneratedToken[]> {
  const g = generation(ids, { maxTokens: 24 });
  using source = await from.reserve(ids.length, never);
  const { first } = await from.prefill(g, source, never);
  const target = await to.reserve(ids.length, never);
  target.startFilling();
  source.pages.forEach((page, i) => to.page(target.pages[i] as number).set(from.page(page)));
  target.commit();
  const tokens = first === undefined ? [] : [first];
  for await (const token of to.decode(g, target, first, never)) tokens.push(token);
  return tokens;
}

// The debug checks are on: after every chunk and step the slot's whole blocks equal decode(pages) bit for bit, although nothing is
// unpacked after packing. So the graphs round exactly as the pages do.
describe('engines whose graphs round to what their pages hold', () => {
  const models: ModelName[] = ['tiny-moe', 'llama'];
  for (const name of models) {
    for (const storage of STORAGES) {
      it.skipIf(absent(name))(`${name}, ${storageName(storage)}: pages alone carry on, to the bit`, async () => {
        const options = { storage, blockTokens: storage.blockTokens, rounds: true, pageCount: 24 };
        await using a = await startEngine(name, options);
        await using b = await startEngine(name, options);
        const ids = randomIds(numbers(3), 211, 256);
        const whole = await generate(a.engine, generation(ids, { maxTokens: 24 }));
        expect(a.errors).toEqual([]);
        const there = await handOver(a.engine, b.engine, ids);
        expect(b.errors).toEqual([]);
        expect(there).toHaveLength(24);
        expect(bits(there)).toBe(bits(whole));
      });
    }
  }
});
