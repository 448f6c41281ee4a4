/** Bare grpc-js, as the least that a message there and one back can cost: a bidirectional stream of bytes to a process of its own. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { Client, credentials, Server, ServerCredentials, type ServerDuplexStream } from '@grpc/grpc-js';

const PATH = '/bench.Echo/Talk';
const same = (bytes: Buffer): Buffer => bytes;

export interface Echo extends AsyncDisposable {
  /**
   * Sends a message of so many bytes, 8 at least, and waits for one of `answerBytes`, which the peer sends after it has been busy for
   * `thinkMs`. Gives the milliseconds.
   */
  roundTrip(bytes: number, answerBytes: number, thinkMs?: number): Promise<number>;
}

/** Starts the peer and opens the stream. */
export async function startEcho(): Promise<Echo> {
  const peer = fork(import.meta.filename, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  const [port] = (await once(peer, 'message')) as [number];
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
  const call = client.makeBidiStreamRequest(PATH, same, same);
  call.on('error', () => undefined);
  return {
    roundTrip: async (bytes, answerBytes, thinkMs = 0) => {
      const message = Buffer.alloc(bytes);
      message.writeUInt32LE(answerBytes);
      message.writeFloatLE(thinkMs, 4);
      const answered = once(call, 'data');
      const start = performance.now();
      call.write(message);
      await answered;
      return performance.now() - start;
    },
    [Symbol.asyncDispose]: async () => {
      call.cancel();
      client.close();
      const exited = once(peer, 'exit');
      peer.disconnect();
      await exited;
    },
  };
}

async function serve(): Promise<void> {
  const server = new Server();
  const definition = {
    talk: {
      path: PATH,
      requestStream: true,
      responseStream: true,
      requestSerialize: same,
      requestDeserialize: same,
      responseSerialize: same,
      responseDeserialize: same,
    },
  } as const;
  server.addService(definition, {
    talk: (call: ServerDuplexStream<Buffer, Buffer>) => {
      call.on('data', (message: Buffer) => {
        const until = performance.now() + message.readFloatLE(4);
        while (performance.now() < until);
        call.write(Buffer.alloc(message.readUInt32LE()));
      });
      call.on('error', () => undefined);
    },
  });
  server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) => {
    if (error !== null) throw error;
    process.send?.(port);
  });
  process.on('disconnect', () => process.kill(process.pid));
}

if (process.argv[1] === import.meta.filename && process.send !== undefined) await serve();
