import { describe, expect, it } from 'vitest';
import { nextTurn } from './turn.ts';

describe('nextTurn', () => {
  it('lets timers run while many loops of microtasks compete', async () => {
    let stop = false;
    let longest = 0;
    let last = performance.now();
    const timer = setInterval(() => {
      const now = performance.now();
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
    // Wall time on a shared machine; without turns the timer would not fire at all.
    expect(longest).toBeLessThan(150);
  });
});
