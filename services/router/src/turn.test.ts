import { describe, expect, it } from 'vitest';
import { nextTurn } from './turn.ts';

describe('nextTurn', () => {
  it('lets timers run while many loops of microtasks compete', async () => {
    let stop = false;
    let longest = 0;
    let last = cpuMs();
    const timer = setInterval(() => {
      const now = cpuMs();
      longest = Math.max(longest, now - last);
      last = now;
    }, 1);
    let rounds = 0;
    const loop = async (): Promise<void> => {
      while (!stop) {
        rounds++;
        await Promise.resolve();
        await nextTurn();
      }
    };
    const loops = Array.from({ length: 8 }, loop);
    await new Promise((resolve) => setTimeout(resolve, 200));
    stop = true;
    clearInterval(timer);
    await Promise.all(loops);
    expect(rounds).toBeGreaterThan(1000);
    // CPU time between two timers, collection of garbage included; without turns the timer would not fire at all.
    expect(longest).toBeGreaterThan(0);
    expect(longest).toBeLessThan(50);
  });

  it('shares a turn among all that wait for one: together they do not use more than a few milliseconds', async () => {
    // A long turn makes everybody wait.
    void nextTurn();
    spin(4);
    let turns = 0;
    const perTurn = new Map<number, number>();
    let done = false;
    const count = (): void => {
      turns++;
      if (!done) setImmediate(count);
    };
    setImmediate(count);
    const work = async (): Promise<void> => {
      await nextTurn();
      spin(1);
      perTurn.set(turns, (perTurn.get(turns) ?? 0) + 1);
    };
    await Promise.all(Array.from({ length: 30 }, work));
    done = true;
    expect([...perTurn.values()].reduce((sum, each) => sum + each, 0)).toBe(30);
    expect(Math.max(...perTurn.values())).toBeLessThanOrEqual(4);
  });
});

/** Uses the CPU for so many milliseconds. */
function spin(ms: number): void {
  for (const end = performance.now() + ms; performance.now() < end; );
}

function cpuMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}
