import type { Socket } from 'node:net';

/** The two sockets of a connection through a proxy: when one fails or closes the other ends. Both are in `open` until they close. */
export function tieSockets(client: Socket, upstream: Socket, open: Set<Socket>): void {
  for (const [socket, other] of [
    [client, upstream],
    [upstream, client],
  ] as const) {
    open.add(socket);
    socket.on('error', () => other.destroy());
    socket.on('close', () => {
      open.delete(socket);
      other.destroy();
    });
  }
}
