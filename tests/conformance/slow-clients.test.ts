/** Clients that read more slowly than the workers write: backpressure reaches the workers, and nothing piles up in the router. */
import { connect } from 'node:net';
import { inferenceV1 } from '@causeway/proto';
import { createChannelPool } from '@causeway/rpc';
import { eventually } from '@causeway/testkit';
import { afterEach, describe, expect, it } from 'vitest';
import { type Harness, type HarnessOptions, startHarness, testTokenizer } from './harness.ts';

const chat = { model: 'tiny-moe', messages: [{ role: 'user' as const, content: 'count to ten' }] };
const answer = (await testTokenizer()).encode('one two three four five six seven eight nine ten');

let harness: Harness | undefined;

async function start(options: HarnessOptions): Promise<Harness> {
  harness = await startHarness(options);
  return harness;
}
afterEach(async () => {
  await harness?.[Symbol.asyncDispose]();
  harness = undefined;
});

/** Waits until the fake workers give no more tokens; how many they gave. */
async function flowStopped(run: Harness): Promise<number> {
  let last = -1;
  await eventually(
    () => {
      const now = run.fabric.of('token').length;
      const still = now > 100 && now === last;
      last = now;
      return still;
    },
    { timeoutMs: 20_000, intervalMs: 500, what: 'the flow of tokens to stop' },
  );
  return last;
}

describe('a client that reads slowly', () => {
  it('over gRPC: the workers are held back, and go on when it reads', async () => {
    const run = await start({ worker: { contextLength: 2_000_000 } });
    const long = Array.from({ length: 20_000 }, () => answer[0] ?? 1);
    run.play({ answer: long });
    using channels = createChannelPool();
    const client = channels.client(inferenceV1.InferenceDefinition, run.grpc);
    const reader = client.generate({ input: { $case: 'prompt', value: 'count' } })[Symbol.asyncIterator]();
    await reader.next();
    const still = await flowStopped(run);
    expect(still).toBeLessThan(long.length / 2);
    let taken = 1;
    while ((await reader.next()).done !== true) taken++;
    // One message a token, and the last with the usage.
    expect(taken).toBe(long.length + 1);
    await run.quiet();
  });

  it('over HTTP: the workers are held back and the router stays small', async () => {
    const run = await start({ worker: { contextLength: 2_000_000 } });
    const long = Array.from({ length: 400_000 }, () => answer[0] ?? 1);
    run.play({ answer: long });
    const { hostname, port } = new URL(run.url);
    const body = JSON.stringify({ ...chat, stream: true });
    const socket = connect(Number(port), hostname);
    socket.pause();
    socket.write(
      `POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    );
    const last = await flowStopped(run);
    expect(last).toBeLessThan(long.length / 2);
    const resident = await run.metric('process_resident_memory_bytes');
    expect(resident).toBeGreaterThan(10 * 1024 * 1024);
    expect(resident).toBeLessThan(400 * 1024 * 1024);
    socket.destroy();
    await run.quiet();
  });
});
