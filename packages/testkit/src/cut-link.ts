/** A TCP proxy of this machine whose connections can fall silent, as when a network is cut: nothing arrives and nobody is told. */
import { connect, createServer, type Socket } from 'node:net';

/** One connection through the link. */
export interface CutConnection {
  readonly client: Socket;
  readonly upstream: Socket;
}

export interface CutLink extends AsyncDisposable {
  /** Those that are open, oldest first. */
  readonly connections: readonly CutConnection[];
  /** From now on nothing goes through this connection, nor through any that is made later; others go on. Nothing is closed. */
  cut(connection: CutConnection): void;
  /** Everything goes through again, what was held back first. */
  heal(): void;
}

/** Listens at `host:port` and carries every connection to `target`. */
export async function startCutLink(o: { host: string; port: number; target: { host: string; port: number } }): Promise<CutLink> {
  const connections: CutConnection[] = [];
  const silent = new Set<CutConnection>();
  let down = false;
  const server = createServer({ noDelay: true }, (client) => {
    const upstream = connect({ ...o.target, noDelay: true });
    const connection = { client, upstream };
    connections.push(connection);
    if (down) silent.add(connection);
    carry(client, upstream, connection);
    carry(upstream, client, connection);
  });
  const carry = (from: Socket, to: Socket, connection: CutConnection): void => {
    from.on('data', (bytes: Buffer) => {
      to.write(bytes);
    });
    if (silent.has(connection)) from.pause();
    // A socket that is cut reads nothing, so that it doesn't hear of an end either.
    from.on('close', () => {
      to.destroy();
      const at = connections.indexOf(connection);
      if (at >= 0) connections.splice(at, 1);
      silent.delete(connection);
    });
    from.on('error', () => to.destroy());
  };
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(o.port, o.host, resolve);
  });
  return {
    connections,
    cut: (connection) => {
      down = true;
      silent.add(connection);
      connection.client.pause();
      connection.upstream.pause();
    },
    heal: () => {
      down = false;
      for (const { client, upstream } of silent) {
        client.resume();
        upstream.resume();
      }
      silent.clear();
    },
    [Symbol.asyncDispose]: async () => {
      for (const { client, upstream } of connections) {
        client.destroy();
        upstream.destroy();
      }
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
