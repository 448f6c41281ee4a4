import { AsyncResource, createHook, executionAsyncResource } from 'node:async_hooks';
import { PerformanceObserver } from 'node:perf_hooks';
import { exactThreadCpu } from './thread-cpu.ts';

/** One synchronous section: a callback that the event loop made, with the ticks and microtasks it left, until the next callback. */
export interface Section {
  /** What called: an async_hooks type, e.g. `TCPWRAP`, `HTTP2STREAM`, `Timeout`, `MESSAGEPORT`. */
  callback: string;
  /** CPU time of this thread, milliseconds, garbage collection included. */
  cpuMs: number;
  wallMs: number;
  /** Wall time of the garbage collections that fell into it, milliseconds: on a busy machine more than their CPU time. */
  gcMs: number;
}

export interface SectionWatchOptions {
  /** Sections of more CPU time than this, garbage collection aside, are long. */
  limitMs: number;
  onLong: (section: Section) => void;
}

/** Collections that are remembered, and how long a section waits for the news of those that fell into it. */
const COLLECTIONS = 256;
const NEWS_MS = 100;

const KIND = Symbol('kind');
type Marked = object & { [KIND]?: string };
/** Scopes that are entered inside a section: by JavaScript, or by the queues that are emptied before the loop goes on. */
const INNER = 'inner';
const QUEUED = new Set(['TickObject', 'Microtask']);

/**
 * Measures every synchronous section of this thread by itself, by async_hooks without promises: what runs between two outermost
 * callbacks of the loop is one section, as ticks and microtasks run before the loop goes on; waiting between them takes no CPU time.
 * Costs some microseconds for each callback: for load tests, and to find what held a loop. Linux with glibc.
 */
export function watchSections(options: SectionWatchOptions): Disposable {
  const collections: { start: number; end: number }[] = [];
  const observer = new PerformanceObserver((list) => {
    for (const { startTime, duration } of list.getEntries()) collections.push({ start: startTime, end: startTime + duration });
    collections.splice(0, collections.length - COLLECTIONS);
  });
  observer.observe({ entryTypes: ['gc'] });

  /** News of collections come later than the section's end. */
  const judge = (callback: string, cpuMs: number, start: number, end: number): void => {
    let gcMs = 0;
    for (const gc of collections) gcMs += Math.max(0, Math.min(gc.end, end) - Math.max(gc.start, start));
    if (cpuMs - gcMs > options.limitMs) options.onLong({ callback, cpuMs, wallMs: end - start, gcMs });
  };

  const threadCpuMs = exactThreadCpu();
  let depth = 0;
  let callback = 'start';
  let cpu = threadCpuMs();
  let wall = performance.now();
  const hook = createHook({
    trackPromises: false,
    init: (_id, type, _trigger, resource: Marked) => {
      resource[KIND] = resource instanceof AsyncResource || QUEUED.has(type) ? INNER : type;
    },
    before: () => {
      if (depth++ > 0) return;
      const kind = (executionAsyncResource() as Marked)[KIND] ?? 'unknown';
      if (kind === INNER) return;
      const now = threadCpuMs();
      const cpuMs = now - cpu;
      if (cpuMs > options.limitMs) setTimeout(judge, NEWS_MS, callback, cpuMs, wall, performance.now()).unref();
      callback = kind;
      cpu = now;
      wall = performance.now();
    },
    after: () => {
      depth--;
    },
  }).enable();
  return {
    [Symbol.dispose]: () => {
      hook.disable();
      observer.disconnect();
    },
  };
}
