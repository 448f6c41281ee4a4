/** Writes frames to a file for other decoders: u32 little-endian length, then the frame, again and again. */
import { createWriteStream, type WriteStream } from 'node:fs';

export class FrameRecorder implements AsyncDisposable {
  readonly #stream: WriteStream;

  constructor(path: string) {
    this.#stream = createWriteStream(path);
  }

  /** Copies the frame: its slot is reused. */
  write(frame: Uint8Array): void {
    const record = Buffer.allocUnsafe(4 + frame.length);
    record.writeUInt32LE(frame.length, 0);
    record.set(frame, 4);
    this.#stream.write(record);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await new Promise<void>((resolve, reject) => this.#stream.end((error?: Error | null) => (error ? reject(error) : resolve())));
  }
}
