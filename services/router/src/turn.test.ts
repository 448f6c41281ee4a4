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
});

function cpuMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}
