import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { absent, type ModelName } from './testing/start-engine.ts';

const run = promisify(execFile);
const SCRIPT = fileURLToPath(new URL('./testing/logit-bits.ts', import.meta.url));

/** Hashes of a model's logits, of prefill in chunks and of decode steps, computed in a process with so many threads. */
async function bitsWith(threads: number, name: ModelName, precision: string): Promise<unknown> {
  const { stdout } = await run(process.execPath, [SCRIPT, name, precision, String(threads)]);
  return JSON.parse(stdout);
}

describe('threads', () => {
  const models = [
    ['tiny-moe', 'exact'],
    ['smollm2', 'fast'],
  ] as const;
  for (const [name, precision] of models) {
    it.skipIf(absent(name))(`${name}, ${precision}: one, two or three give the same bits of every logit`, async () => {
      const one = await bitsWith(1, name, precision);
      expect(one).toEqual({ prefill: expect.stringMatching(/^[0-9a-f]{64}$/), decode: expect.stringMatching(/^[0-9a-f]{64}$/) });
      for (const threads of [2, 3]) expect(await bitsWith(threads, name, precision), `${threads} threads`).toEqual(one);
    });
  }
});
