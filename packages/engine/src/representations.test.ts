import { type KvStorage, PageLayout, pageBytes, storageName, wireFormOf } from '@causeway/kv';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
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

const run = promisify(execFile);
const PACKER = fileURLToPath(new URL('../../../tests/wire/pack_pages.py', import.meta.url));
const python = await run('python3', ['--version']).then(
  () => true,
  () => false,
);

/** The prompt's pages, and the K and V in them as f32 rows where pages are f32 in wire order. */
async function promptPages(engine: Engine, ids: readonly number[]): Promise<Uint8Array[]> {
  using pages = await engine.reserve(ids.length, never);
  await engine.prefill(generation(ids), pages, never);
  return pages.pages.map((page) => engine.page(page).slice());
}

describe.skipIf(!python)('pages equal, byte for byte, those of a packer in Python that knows the layouts alone (python3)', () => {
  const models: ModelName[] = ['tiny-moe', 'llama'];
  for (const name of models) {
    for (const storage of STORAGES) {
      it.skipIf(absent(name))(`${name}, ${storageName(storage)}`, async () => {
        const folder = await mkdtemp(join(tmpdir(), 'causeway-pages-'));
        try {
          const { blockTokens } = storage;
          const ids = randomIds(numbers(5), 2 * Math.max(64, blockTokens), 256);
          // K and V in f32 pages of an engine whose graphs round alike
          await using plain = await startEngine(name, { rounds: wireFormOf(storage), blockTokens: 16, pageCount: 40 });
          const pages = await promptPages(plain.engine, ids);
          const { descriptor } = plain.engine.info;
          const rows = descriptor.layers.flatMap((_, firstLayer) =>
            new PageLayout(descriptor)
              .segments({ kind: 'tokens', firstLayer, layerCount: 1, firstToken: 0, tokenCount: ids.length })
              .map(({ page, offset, length }) => (pages[page] as Uint8Array).subarray(offset, offset + length)),
          );
          await writeFile(join(folder, 'numbers'), Buffer.concat(rows));
          const { layers } = descriptor;
          await writeFile(join(folder, 'descriptor.json'), JSON.stringify({ layers, storage, tokens: ids.length }));
          await run('python3', [PACKER, join(folder, 'descriptor.json'), join(folder, 'numbers'), join(folder, 'pages')]);
          await using engine = await startEngine(name, { storage, blockTokens, rounds: true, pageCount: 20 });
          const found = Buffer.concat(await promptPages(engine.engine, ids));
          expect(found.length).toBe((ids.length / blockTokens) * pageBytes(engine.engine.info.descriptor));
          const packed = await readFile(join(folder, 'pages'));
          expect(packed.length).toBe(found.length);
          expect(packed.findIndex((byte, i) => byte !== found[i])).toBe(-1);
        } finally {
          await rm(folder, { recursive: true });
        }
      });
    }
  }
});
