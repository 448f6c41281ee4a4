import { createRequire } from 'node:module';
import type Koffi from 'koffi';

/** CPU time of this thread since it started, milliseconds. Linux counts the time slice that runs in ticks of up to 4 ms. */
export function threadCpuMs(): number {
  const usage = process.threadCpuUsage();
  return (usage.user + usage.system) / 1000;
}

const CLOCK_THREAD_CPUTIME_ID = 3;

/** The same without ticks: the C library's clock_gettime, which Node.js has no name for. Linux with glibc. */
export function exactThreadCpu(): () => number {
  const koffi = createRequire(import.meta.url)('koffi') as typeof Koffi;
  const clock = koffi.load('libc.so.6').func('int clock_gettime(int clock, void *time)');
  // struct timespec: two 64-bit numbers, seconds and nanoseconds; their low halves hold all that comes.
  const time = new Int32Array(4);
  return () => {
    clock(CLOCK_THREAD_CPUTIME_ID, time);
    return (time[0] as number) * 1e3 + (time[2] as number) / 1e6;
  };
}
