/** `causeway profile` over a cluster that `up` started: what it measures is written, registered and shown. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { WorkerProfile } from '@causeway/registry';
import { afterAll, expect, test } from 'vitest';
import { CommandFolder, FIRST_LINE } from './command-folder.ts';

const at = new CommandFolder();
afterAll(() => at[Symbol.asyncDispose](), 60_000);

test('profile measures every worker, writes JSON and a report; status shows it', async () => {
  await at.start(['up', '--model', 'tiny-moe']).waitForLine(FIRST_LINE, 120_000);
  const file = join(at.path, 'profile.json');
  const sizes = ['--prompts', '32,200', '--batches', '1,2', '--contexts', '40', '--repeats', '2'];
  const { code, output } = await at.run(['profile', ...sizes, '--json', file]);
  expect(output).toMatch(/PROMPT TOKENS +PREFILL, S +TOKENS\/S\n32 +/);
  expect(output).toMatch(/SEQUENCES +CONTEXT +DECODE STEP, MS +TOKENS\/S\n1 +40 +/);
  expect(code).toBe(0);
  const profiles = JSON.parse(readFileSync(file, 'utf8')) as WorkerProfile[];
  const [decode, prefill] = profiles as [WorkerProfile, WorkerProfile];
  expect([decode.worker, prefill.worker]).toEqual(['decode', 'prefill']);
  // 5 layers of a latent of 64 f32 numbers
  expect(decode.kvBytesPerToken).toBe(5 * 64 * 4);
  expect(decode.decode.map(({ batch, context }) => [batch, context])).toEqual([
    [1, 40],
    [2, 40],
  ]);
  for (const { stepMs } of decode.decode) expect(stepMs).toBeGreaterThan(0.2);
  expect(prefill.prefill.map(({ tokens }) => tokens)).toEqual([32, 200]);
  for (const { seconds } of prefill.prefill) expect(seconds).toBeGreaterThan(0.001);
  const [link] = prefill.links;
  expect(link).toMatchObject({ to: 'decode', wire: 'f32', tokens: 200, rawBytes: 200 * 5 * 64 * 4 });
  expect(link?.bytesPerSecond).toBeGreaterThan(1e5);
  expect(link?.roundTripMs).toBeGreaterThan(0.05);
  expect(link?.codecs?.map(({ codec }) => codec)).toEqual(['none', 'zstd', 'planes+zstd']);
  expect(link?.codecs?.[2]?.ratio).toBeGreaterThan(1.05);

  const shown = await at.run(['status']);
  expect(shown.output).toMatch(/KV FROM +TO +BANDWIDTH +AS +CODEC/);
  expect(shown.output).toMatch(/prefill +prefill \d+ tokens\/s of 200, KV 1\.3 KiB a token/);
  expect(shown.output).toMatch(/decode +decode [\d.]+ ms with 2 after 40 tokens/);
  const wrong = await at.run(['profile', 'nobody']);
  expect(wrong.output).toContain('no worker or pool nobody is registered; there are: decode, prefill');
  expect(wrong.code).toBe(1);
}, 240_000);
