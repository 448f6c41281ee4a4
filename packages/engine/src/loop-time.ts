/** Work since the last pause after which the loop lets others run, in milliseconds. */
const BREATH_MS = 2;

/**
 * Keeps the engine's own work on the event loop short and knows how long it got. What runs between two pauses counts as one
 * section, whatever parts it has; awaiting a run in ONNX Runtime's threads is a pause.
 */
export class LoopTime {
  #busyMs = 0;
  #cpuMs = 0;
  /** Longest section so far, in milliseconds of this thread's CPU time: other processes on the machine don't count. */
  longestMs = 0;
  /** The part of it that came last. */
  longest = '';

  /** Runs `work` on the event loop and counts its time. */
  section<T>(name: string, work: () => T): T {
    const start = performance.now();
    const cpu = process.threadCpuUsage();
    try {
      return work();
    } finally {
      this.#busyMs += performance.now() - start;
      const used = process.threadCpuUsage(cpu);
      this.#cpuMs += (used.user + used.system) / 1000;
      // Kernels may count CPU time in ticks of some milliseconds: what the clock says bounds it.
      const ms = Math.min(this.#cpuMs, this.#busyMs);
      if (ms > this.longestMs) {
        this.longestMs = ms;
        this.longest = name;
      }
    }
  }

  /** Waits for work elsewhere: a pause. */
  async elsewhere<T>(work: Promise<T>): Promise<T> {
    try {
      return await work;
    } finally {
      this.#restart();
    }
  }

  /** Lets timers and sockets run when this section is longer than 2 ms already. */
  async breathe(): Promise<void> {
    if (this.#busyMs > BREATH_MS) await this.pause();
  }

  /** Lets timers and sockets run. */
  async pause(): Promise<void> {
    await new Promise<void>((resolve) => setImmediate(resolve));
    this.#restart();
  }

  #restart(): void {
    this.#busyMs = 0;
    this.#cpuMs = 0;
  }
}
