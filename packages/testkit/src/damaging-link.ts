/** A TCP proxy of this machine that damages what a NATS client publishes, as a bad link or network card does. */
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { tieSockets } from './socket-pair.ts';

export interface DamagingLink extends AsyncDisposable {
  /** Port of 127.0.0.1 to connect to instead of the server's. */
  readonly port: number;
  /** Damages the next so many messages; those after them go through as they are. */
  damage(messages: number): void;
  /** Messages that are still to be damaged. */
  readonly left: number;
}

/** Damage falls behind a frame's own header, which is 64 bytes long: the message is still known for what it is. */
const BEHIND_HEADER = 128;

/**
 * Carries every connection to `target`, a port of 127.0.0.1; when told so it flips one bit in the body of published messages.
 * @param subject what the subjects of these messages begin with
 */
export async function startDamagingLink(o: { target: number; subject: string }): Promise<DamagingLink> {
  const sockets = new Set<Socket>();
  const publish = Buffer.from(`PUB ${o.subject}`);
  let left = 0;
  const pass = (bytes: Buffer): void => {
    if (left === 0) return;
    const verb = bytes.indexOf(publish);
    const body = verb < 0 ? -1 : bytes.indexOf('\r\n', verb) + 2;
    const size = Number(/ (\d+)\r\n$/.exec(bytes.toString('latin1', Math.max(verb, 0), Math.max(body, 0)))?.[1] ?? 0);
    const at = Math.min(body + size, bytes.length) - 1;
    // A message of which too little is in this piece goes on as it is; another will do.
    if (body < 2 || at < body + BEHIND_HEADER) return;
    bytes[at] = (bytes[at] ?? 0) ^ 1;
    left -= 1;
  };
  const server = createServer({ noDelay: true }, (client) => {
    const upstream = connect({ host: '127.0.0.1', port: o.target, noDelay: true });
    client.on('data', (bytes: Buffer) => {
      pass(bytes);
      upstream.write(bytes);
    });
    upstream.on('data', (bytes: Buffer) => void client.write(bytes));
    tieSockets(client, upstream, sockets);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  return {
    port: (server.address() as AddressInfo).port,
    damage: (messages) => {
      left = messages;
    },
    get left() {
      return left;
    },
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
