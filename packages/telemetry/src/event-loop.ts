import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { Registry } from 'prom-client';
import { type Section, watchSections } from './event-loop-sections.ts';
import { createMetrics, type Metrics } from './metrics.ts';
import { threadCpuMs } from './thread-cpu.ts';

/** CPU time that no synchronous section of an event loop may exceed. */
const LONG_SECTION_MS = 5;
/** Period of the sampling timer. */
const SAMPLE_MS = 2;

/** What held the loop: a turn, or one section of it. Milliseconds. */
export type LongHold = ({ what: 'turn' } & Pick<Section, 'cpuMs' | 'wallMs'>) | ({ what: 'section' } & Section);

export interface EventLoopMonitorOptions {
  /** Measure every callback by itself too: see {@link watchSections}. */
  watchSections?: boolean;
  /** Told of each long turn and section; for a log line. */
  onLong?: (what: LongHold) => void;
}

export interface EventLoopMonitor extends Disposable {
  readonly longTurns: number;
  readonly longestCpuMs: number;
}

/**
 * Exports the event loop's delay (p50, p99, max since the last scrape, from `monitorEventLoopDelay`) and counts long turns, and long
 * sections when asked.
 *
 * Turns: an unreferenced timer of 2 ms. A turn of the loop cannot be interrupted by a timer, so one that is due fires right after
 * the turn during which it fell due. Between two firings this thread's CPU time (`process.threadCpuUsage`, not wall time: another
 * process that takes the core does not count, nor does waiting) therefore is at most 2 ms of earlier turns plus one turn. More than
 * 5 + 2 ms is certainly one turn above 5 ms. A turn is all callbacks of one phase, garbage collection on this thread included: when
 * twenty sockets become readable at once, it is twenty sections. Cost: 500 timer firings a second.
 */
export function monitorEventLoop(registry: Registry, options: EventLoopMonitorOptions = {}): EventLoopMonitor {
  const metrics = createMetrics(['eventLoopDelay', 'eventLoopLongTurns', 'eventLoopLongestTurn'], { registry });
  const delay = monitorEventLoopDelay({ resolution: 10 });
  delay.enable();
  exportDelay(metrics, delay);
  const sections = options.watchSections === true ? exportSections(registry, options) : undefined;

  let longTurns = 0;
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
    longTurns++;
    longestCpuMs = Math.max(longestCpuMs, cpuMs);
    metrics.eventLoopLongTurns.inc();
    metrics.eventLoopLongestTurn.set(longestCpuMs / 1000);
    options.onLong?.({ what: 'turn', cpuMs, wallMs });
  }, SAMPLE_MS).unref();

  return {
    get longTurns() {
      return longTurns;
    },
    get longestCpuMs() {
      return longestCpuMs;
    },
    [Symbol.dispose]: () => {
      clearInterval(timer);
      delay.disable();
      sections?.[Symbol.dispose]();
    },
  };
}

function exportSections(registry: Registry, { onLong }: EventLoopMonitorOptions): Disposable {
  const { eventLoopLongSections } = createMetrics(['eventLoopLongSections'], { registry });
  return watchSections({
    limitMs: LONG_SECTION_MS,
    onLong: (section) => {
      eventLoopLongSections.inc({ callback: section.callback });
      onLong?.({ what: 'section', ...section });
    },
  });
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
