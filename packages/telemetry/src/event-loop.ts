import { monitorEventLoopDelay } from 'node:perf_hooks';
import { createMetrics, type Metrics } from './metrics.ts';
import type { Registry } from 'prom-client';

/** CPU time above which a turn of the event loop counts as long. */
export const LONG_SECTION_MS = 5;
/** Period of the sampling timer. */
const SAMPLE_MS = 2;

export interface EventLoopMonitorOptions {
  /** Told of each long section; for a log line in a load test. Milliseconds of CPU and of wall time. */
  onLongSection?: (cpuMs: number, wallMs: number) => void;
}

export interface EventLoopMonitor extends Disposable {
  readonly longSections: number;
  readonly longestCpuMs: number;
}

/**
 * Exports the event loop's delay (p50, p99, max since the last scrape, from `monitorEventLoopDelay`) and counts long sections.
 *
 * Method: an unreferenced timer of 2 ms. A turn of the loop cannot be interrupted, so a timer that is due fires right after the turn
 * during which it fell due. Between two firings this thread's CPU time (`process.threadCpuUsage`, not wall time: another process
 * that takes the core does not count, nor does waiting) therefore is at most 2 ms of earlier turns plus one turn. More than
 * 5 + 2 ms is certainly one turn above 5 ms; between 5 and 7 ms a long turn may go uncounted. A turn is the callbacks of one
 * phase run, garbage collection on this thread included. Cost: 500 timer firings a second.
 */
export function monitorEventLoop(registry: Registry, options: EventLoopMonitorOptions = {}): EventLoopMonitor {
  const metrics = createMetrics(['eventLoopDelay', 'eventLoopLongSections', 'eventLoopLongestSection'], { registry });
  const delay = monitorEventLoopDelay({ resolution: 10 });
  delay.enable();
  exportDelay(metrics, delay);

  let longSections = 0;
  let longestCpuMs = 0;
  let lastCpu = threadCpuMs();
  let lastWall = performance.now();
  const timer = setInterval(() => {
    const cpu = threadCpuMs();
    const cpuMs = cpu - lastCpu;
    lastCpu = cpu;
    const wall = performance.now();
    const wallMs = wall - lastWall;
    lastWall = wall;
    // Without a gap in the firings there was no long turn, whatever the CPU clock says.
    if (Math.min(cpuMs, wallMs) <= LONG_SECTION_MS + SAMPLE_MS) return;
    longSections++;
    longestCpuMs = Math.max(longestCpuMs, cpuMs);
    metrics.eventLoopLongSections.inc();
    metrics.eventLoopLongestSection.set(longestCpuMs / 1000);
    options.onLongSection?.(cpuMs, wallMs);
  }, SAMPLE_MS).unref();

  return {
    get longSections() {
      return longSections;
    },
    get longestCpuMs() {
      return longestCpuMs;
    },
    [Symbol.dispose]: () => {
      clearInterval(timer);
      delay.disable();
    },
  };
}

function threadCpuMs(): number {
  const usage = process.threadCpuUsage();
  return (usage.user + usage.system) / 1000;
}

/** Sets the gauges at each scrape and starts the next window. */
function exportDelay(metrics: Metrics<'eventLoopDelay'>, delay: ReturnType<typeof monitorEventLoopDelay>): void {
  const gauge = metrics.eventLoopDelay as typeof metrics.eventLoopDelay & { collect?: () => void };
  gauge.collect = () => {
    const seconds = (nanoseconds: number): number => (Number.isFinite(nanoseconds) ? nanoseconds / 1e9 : 0);
    gauge.set({ quantile: '0.5' }, seconds(delay.percentile(50)));
    gauge.set({ quantile: '0.99' }, seconds(delay.percentile(99)));
    gauge.set({ quantile: '1' }, seconds(delay.count === 0 ? 0 : delay.max));
    delay.reset();
  };
}
