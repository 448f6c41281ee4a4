/** Listens to the frames that cross a NATS server, read by the layout of docs/wire.md, with none of the product's code. */
import { readFile } from 'node:fs/promises';
import { connect } from 'nats';

export interface TappedFrame {
  subject: string;
  transfer: string;
  epoch: number;
  object: number;
  part: number;
  /** 1 none, 2 zstd, 3 planes+zstd. */
  codec: number;
  resent: boolean;
  rawBytes: number;
  /** Header and body. */
  bytes: number;
}

export interface FrameTap extends AsyncDisposable {
  readonly frames: readonly TappedFrame[];
  /** Waits until everything that the server had taken before has arrived here. */
  flush(): Promise<void>;
}

const HEADER_BYTES = 64;

export async function tapFrames(natsUrl: string): Promise<FrameTap> {
  const connection = await connect({ servers: natsUrl, maxReconnectAttempts: -1, reconnectTimeWait: 100 });
  const frames: TappedFrame[] = [];
  connection.subscribe('causeway.v1.kv.>', {
    callback: (_error, { subject, data }) => {
      const view = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
      if (view.length < HEADER_BYTES || view.toString('latin1', 0, 4) !== 'CWKV') return;
      frames.push({
        subject,
        transfer: view.toString('hex', 8, 24),
        epoch: view.readUInt32LE(24),
        object: view.readUInt32LE(28),
        part: view.readUInt32LE(32),
        codec: view.readUInt8(36),
        resent: (view.readUInt16LE(6) & 1) === 1,
        rawBytes: view.readUInt32LE(40),
        bytes: view.length,
      });
    },
  });
  await connection.flush();
  return {
    frames,
    flush: () => connection.flush(),
    [Symbol.asyncDispose]: () => connection.close(),
  };
}

/** The complete records of one transfer in a file of recorded frames: u32 little-endian length, then the frame. */
export async function recordsOf(path: string, transfer: string): Promise<Buffer[]> {
  const file = await readFile(path);
  const records: Buffer[] = [];
  for (let at = 0; at + 4 <= file.length; ) {
    const end = at + 4 + file.readUInt32LE(at);
    const record = file.subarray(at, end);
    if (end <= file.length && record.toString('hex', 4 + 8, 4 + 24) === transfer) records.push(record);
    at = end;
  }
  return records;
}
