/** A client of NATS that speaks just enough of the protocol for tests to misbehave with. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

/** Connects to a server of this machine that asks for no user, and waits for its answer to a first ping. */
export async function connectNatsPeer(port: number): Promise<Socket> {
  const socket = connect({ host: '127.0.0.1', port });
  await once(socket, 'data');
  socket.write('CONNECT {"verbose":false,"pedantic":false}\r\nPING\r\n');
  await once(socket, 'data');
  // A server that cuts it off is what tests want to see.
  socket.on('error', () => undefined);
  return socket;
}

/** Subscribes to a subject and reads nothing of it: what comes fills the kernel's buffers first, and then the server's. */
export async function connectDeafNatsPeer(port: number, subject: string): Promise<Socket> {
  const socket = await connectNatsPeer(port);
  socket.pause();
  socket.write(`SUB ${subject} 1\r\n`);
  return socket;
}

/** A message of so many bytes as it is published. */
export function natsPublication(subject: string, bytes: number): Buffer {
  return Buffer.concat([Buffer.from(`PUB ${subject} ${bytes}\r\n`), Buffer.alloc(bytes), Buffer.from('\r\n')]);
}
