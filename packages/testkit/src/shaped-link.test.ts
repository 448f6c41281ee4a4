import { once } from 'node:events';
import { connect, createServer, type AddressInfo } from 'node:net';
import { describe, expect, test } from 'vitest';
import { startShapedLink } from './shaped-link.ts';
import { TokenBucket } from './token-bucket.ts';

/** A server that answers every connection with the bytes it got in all, once it has got `wanted`. */
async function counter(wanted: number): Promise<AsyncDisposable & { port: number }> {
  const server = createServer((socket) => {
    let got = 0;
    socket.on('data', (chunk) => {
      got += chunk.length;
      if (got >= wanted) socket.end(String(got));
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    [Symbol.asyncDispose]: async () => {
      server.close();
      await once(server, 'close');
    },
  };
}

async function send(port: number, bytes: number): Promise<{ answer: string; ms: number }> {
  const socket = connect({ port, host: '127.0.0.1' });
  const start = performance.now();
  socket.write(Buffer.alloc(bytes));
  const [answer] = (await once(socket, 'data')) as [Buffer];
  return { answer: answer.toString(), ms: performance.now() - start };
}

describe('TokenBucket', () => {
  test('lets its rate through and no more, however it is asked', () => {
    let now = 0;
    const bucket = new TokenBucket(1000, now);
    let sent = 0;
    while (now < 1000) {
      const wait = bucket.waitMs(now);
      if (wait > 0) now += Math.max(1, wait);
      else {
        bucket.take(3000);
        sent += 3000;
      }
    }
    expect(sent / now).toBeGreaterThan(990);
    expect(sent / now).toBeLessThan(1010);
  });

  test('saves up a few milliseconds only', () => {
    const bucket = new TokenBucket(1000, 0);
    expect(bucket.waitMs(60_000)).toBe(0);
    bucket.take(10_000);
    expect(bucket.waitMs(60_000)).toBeGreaterThan(5);
  });
});

describe('a shaped link', () => {
  test('carries every byte, not faster than its rate, which two connections share', async () => {
    const bytes = 1 << 20;
    await using server = await counter(bytes);
    await using link = await startShapedLink({ target: server.port, bitsPerSecond: 80e6 });
    const both = await Promise.all([send(link.port, bytes), send(link.port, bytes)]);
    expect(both.map(({ answer }) => answer)).toEqual([String(bytes), String(bytes)]);
    // 2 MiB at 10,000 bytes a ms, less the burst
    expect(Math.max(...both.map(({ ms }) => ms))).toBeGreaterThan((2 * bytes) / 10_000 - 10);
    link.setRate(8e9);
    expect((await send(link.port, bytes)).ms).toBeLessThan((2 * bytes) / 10_000);
  });
});
