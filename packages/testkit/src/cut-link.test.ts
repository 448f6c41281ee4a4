import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { expect, test } from 'vitest';
import { type CutConnection, eventually, freePort, startCutLink } from './index.ts';

async function echo(): Promise<{ port: number } & AsyncDisposable> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined).pipe(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function talk(port: number): Promise<{ socket: Socket; heard: () => string }> {
  const socket = connect({ host: '127.0.0.2', port });
  let heard = '';
  socket.on('data', (bytes: Buffer) => (heard += bytes.toString()));
  await once(socket, 'connect');
  return { socket, heard: () => heard };
}

test('a cut connection and later ones are silent and stay open, others go on; healed, what was held back arrives', async () => {
  await using server = await echo();
  const port = await freePort();
  await using link = await startCutLink({ host: '127.0.0.2', port, target: { host: '127.0.0.1', port: server.port } });
  const [a, b] = [await talk(port), await talk(port)];
  for (const { socket, heard } of [a, b]) {
    socket.write('1');
    await eventually(() => heard() === '1');
  }
  link.cut(link.connections[0] as CutConnection);
  const c = await talk(port);
  for (const { socket } of [a, b, c]) socket.write('2');
  await eventually(() => b.heard() === '12');
  expect([a.heard(), c.heard(), a.socket.destroyed, c.socket.destroyed]).toEqual(['1', '', false, false]);
  link.heal();
  await eventually(() => a.heard() === '12' && c.heard() === '2');
  a.socket.end();
  await eventually(() => link.connections.length === 2);
  b.socket.destroy();
  c.socket.destroy();
});
