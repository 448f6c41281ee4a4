/** Adds one to every byte of memory given by address, as a worker thread, and says the sum of what it found. */
import { parentPort, workerData } from 'node:worker_threads';
import { viewAddress } from '../index.ts';

const { address, byteLength } = workerData as { address: bigint; byteLength: number };
const bytes = viewAddress(address, byteLength);
let sum = 0;
for (let i = 0; i < bytes.length; i++) {
  sum += bytes[i] as number;
  bytes[i] = (bytes[i] as number) + 1;
}
parentPort?.postMessage(sum);
