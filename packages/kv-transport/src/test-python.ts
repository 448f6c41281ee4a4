/** The Python script that decodes recorded frames by docs/wire.md alone. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const SCRIPT = fileURLToPath(new URL('../../../tests/wire/decode_frames.py', import.meta.url));
/** Whether there is a Python to run it. */
export const python = await run('python3', ['--version']).then(
  () => true,
  () => false,
);

/** What the decoder says of recorded frames. */
export interface DecodedFrames {
  frames: number;
  parts: number;
  rawBytes: number;
  frameBytes: number;
  manifestDigest: string;
  transfers: string[];
  problems: string[];
  objectSha256: string[];
  headers: { object: number; part: number; epoch: number; codec: string; rawBytes: number; rawCrc: number }[];
}

/** Runs tests/wire/decode_frames.py over recorded frames. */
export async function decodeFrames(file: string, pageBytes: number): Promise<DecodedFrames> {
  const { stdout } = await run('python3', [SCRIPT, file, '--page-bytes', String(pageBytes)], { maxBuffer: 64 << 20 }).catch(
    (error: { stdout: string; stderr: string }) => {
      if (error.stdout === '') throw new Error(error.stderr);
      return error;
    },
  );
  return JSON.parse(stdout) as DecodedFrames;
}
