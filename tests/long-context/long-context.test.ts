/** KV of very long prompts: what both ends need beyond their pages, with the NATS server restarted in the middle. */
import { expect, test } from 'vitest';
import { type LongTransfer, transferLongContext } from './transfer.ts';

const FULL = process.env['CAUSEWAY_TEST_FULL'] === '1';
const MILLION = 1_048_576;
const LIMIT = 512 * 1024 ** 2;

function expectWhole(seen: LongTransfer): void {
  process.stdout.write(`${JSON.stringify(seen)}\n`);
  expect(seen.equal).toBe(true);
  expect(seen.killedAt).toBeGreaterThan(0);
  expect(seen.killedAt).toBeLessThan(seen.rawBytes);
  expect(seen.senderDisconnections).toBeGreaterThan(0);
  expect(seen.receiverDisconnections).toBeGreaterThan(0);
  expect(seen.senderAboveIdle).toBeLessThan(LIMIT);
  expect(seen.receiverAboveIdle).toBeLessThan(LIMIT);
  // what was under way when the server died, and no more
  expect(seen.resentParts).toBeLessThan(seen.parts / 2);
}

test('4,096 tokens of DeepSeek-V4 outlive the server', async () => {
  const seen = await transferLongContext(4_096);
  expectWhole(seen);
  expect(seen.rawBytes).toBeGreaterThan(4_096 * 6_880);
});

test.runIf(FULL)(
  'a million tokens of DeepSeek-V4 outlive the server, within 512 MiB above idle at both ends',
  { timeout: 7_200_000 },
  async () => {
    const seen = await transferLongContext(MILLION);
    expectWhole(seen);
    expect(seen.rawBytes).toBeGreaterThan(4.9e9);
  },
);
