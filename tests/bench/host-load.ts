/** What else the machine did while something was measured. */
import { readdirSync, readFileSync } from 'node:fs';

/** Clock ticks per second that /proc counts in (USER_HZ). */
const TICKS = 100;

function fields(path: string): string[] {
  return readFileSync(path, 'utf8').split(/\s+/);
}

/** CPU seconds of all processes since the machine started (proc(5), /proc/stat: user nice system idle iowait irq softirq steal). */
function machineSeconds(): number {
  const [, user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] = fields('/proc/stat').map(Number);
  return (user + nice + system + irq + softirq + steal) / TICKS;
}

/** A process's parent, and its CPU seconds so far, of all its threads (proc(5), /proc/PID/stat). @throws Error when there is none. */
function processStat(pid: number | string): { parent: number; seconds: number } {
  // After the name, which may hold spaces: state ppid ... utime (the 12th) stime.
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const [, parent, , , , , , , , , , utime, stime] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return { parent: Number(parent), seconds: (Number(utime) + Number(stime)) / TICKS };
}

/** CPU seconds of a process so far, of all its threads. @throws Error when there is none. */
export function cpuSeconds(pid: number): number {
  return processStat(pid).seconds;
}

/** CPU seconds of this process and its living children. */
function ownSeconds(): number {
  const { user, system } = process.cpuUsage();
  let seconds = (user + system) / 1e6;
  for (const pid of readdirSync('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    try {
      const child = processStat(pid);
      if (child.parent === process.pid) seconds += child.seconds;
    } catch {
      // Ended meanwhile.
    }
  }
  return seconds;
}

/** Watches how many of the machine's cores processes other than this one and its children keep busy, from its making on. */
export class OtherProcesses {
  readonly #since = { at: performance.now(), machine: machineSeconds(), own: ownSeconds() };

  /** Cores busy for others, on average since then. */
  cores(): number {
    const seconds = (performance.now() - this.#since.at) / 1000;
    return Math.max(0, (machineSeconds() - this.#since.machine - (ownSeconds() - this.#since.own)) / seconds);
  }
}
