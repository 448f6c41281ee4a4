/** `causeway kv dump` of a live sequence, held against a packer in Python that knows the layouts alone. */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { type KvDescriptor, PageLayout, pageBytes } from '@causeway/kv';
import { describe, expect, it } from 'vitest';
import { startTestCluster, type TestCluster, TINY_MOE } from '../evidence/harness.ts';

const run = promisify(execFile);
const path = (name: string): string => fileURLToPath(new URL(`../../../${name}`, import.meta.url));
const python = await run('python3', ['--version']).then(
  () => true,
  () => false,
);
const PROMPT = Array.from({ length: 256 }, (_, i) => (i * 37 + 11) % 250);
const INSPECT = { CAUSEWAY_KV_INSPECT: 'on' };
const NVIDIA = { CAUSEWAY_CHIP: 'nvidia', CAUSEWAY_CHIP_EMULATED: 'on', CAUSEWAY_KV_LAYOUT: 'HND', CAUSEWAY_BLOCK_TOKENS: '64' };
const ASCEND = { CAUSEWAY_CHIP: 'ascend', CAUSEWAY_CHIP_EMULATED: 'on', CAUSEWAY_KV_LAYOUT: 'NZ' };
const PLAIN = { CAUSEWAY_CHIP: 'cpu', CAUSEWAY_KV_DTYPE: 'bf16' };

interface Dump {
  pages: Buffer;
  descriptor: Pick<KvDescriptor, 'layers' | 'storage'> & { tokens: number };
}

function dump(address: string, requestId: string, out: string): Promise<{ stdout: string; stderr: string }> {
  return run(process.execPath, [path('services/cli/src/main.ts'), 'kv', 'dump', requestId, '--worker', address, '--out', out]);
}

/** Dumps the prompt of an answer of a decode worker while it is written, then gives the answer up. */
async function dumpLive(there: TestCluster, decode: string, folder: string): Promise<Dump> {
  const ended = new AbortController();
  const requestId = `live-${decode}`;
  const file = join(folder, decode);
  const writing = Promise.withResolvers<void>();
  const attempt = there.attempt(
    { promptIds: PROMPT, maxTokens: 1700, ignoreEos: true },
    {
      decode,
      requestId,
      signal: ended.signal,
      onEvent: ({ event }) => {
        if (event?.$case === 'token' && event.value.position > 1) writing.resolve();
      },
    },
  );
  attempt.catch(writing.reject);
  await writing.promise;
  const { stdout } = await dump(there.worker(decode).address, requestId, file);
  expect(stdout).toContain(`${PROMPT.length} tokens`);
  ended.abort();
  await attempt.catch(() => undefined);
  return { pages: await readFile(file), descriptor: JSON.parse(await readFile(`${file}.json`, 'utf8')) as Dump['descriptor'] };
}

describe.skipIf(!python)('causeway kv dump (python3)', () => {
  it('of a live sequence on ascend, prefilled on nvidia, equals the packer byte for byte', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'causeway-dump-'));
    try {
      const env = {
        'prefill-1': NVIDIA,
        'decode-1': { ...ASCEND, ...INSPECT },
        'decode-2': { ...PLAIN, ...INSPECT },
        'decode-3': ASCEND,
      };
      await using there = await startTestCluster({ model: TINY_MOE, decode: 3, env });
      const native = await dumpLive(there, 'decode-1', folder);
      const plain = await dumpLive(there, 'decode-2', folder);
      const { storage, layers } = native.descriptor;
      expect(storage).toMatchObject({ dtype: 'bf16', layout: 'NZ', blockTokens: 128, latent: 'split' });

      // the plain worker's pages are bf16 rows: the numbers that the packer is given
      const size = pageBytes(plain.descriptor);
      const rows = layers.flatMap((_, firstLayer) =>
        new PageLayout({ ...plain.descriptor, version: 1 })
          .segments({ kind: 'tokens', firstLayer, layerCount: 1, firstToken: 0, tokenCount: PROMPT.length })
          .map(({ page, offset, length }) => plain.pages.subarray(page * size + offset, page * size + offset + length)),
      );
      const numbers = Buffer.concat(rows);
      const widened = Uint32Array.from({ length: numbers.length / 2 }, (_, i) => numbers.readUInt16LE(2 * i) << 16);
      await writeFile(join(folder, 'numbers'), new Uint8Array(widened.buffer));
      await run('python3', [
        path('tests/wire/pack_pages.py'),
        join(folder, 'decode-1.json'),
        join(folder, 'numbers'),
        join(folder, 'packed'),
      ]);
      const packed = await readFile(join(folder, 'packed'));
      expect(packed.length).toBe(native.pages.length);
      expect(packed.findIndex((byte, i) => byte !== native.pages[i])).toBe(-1);
      expect(new Set(packed).size).toBeGreaterThan(100);

      await expect(dump(there.worker('decode-1').address, 'gone', join(folder, 'x'))).rejects.toThrow(
        /writing no answer to request "gone"/,
      );
      await expect(dump(there.worker('decode-3').address, 'gone', join(folder, 'x'))).rejects.toThrow(/CAUSEWAY_KV_INSPECT=on/);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
