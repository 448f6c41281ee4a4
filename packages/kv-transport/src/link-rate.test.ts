import { describe, expect, test } from 'vitest';
import { LinkRate } from './link-rate.ts';

/** Clock of the receiver minus that of the sender, ms. */
const CLOCKS = -731_000;
const DELAY = 20;

/** A link that carries frames one after another; gives what a receiver would tell of each. */
function link(bytesPerMs: number) {
  let now = 0;
  let freeAt = 0;
  let last: number | undefined;
  const rate = new LinkRate(() => now);
  rate.small(0, DELAY + CLOCKS);
  return {
    rate,
    send: (publishedAt: number, bytes: number): void => {
      freeAt = Math.max(publishedAt, freeAt) + bytes / bytesPerMs;
      const arrivedAt = freeAt + DELAY + CLOCKS;
      now = freeAt;
      rate.frame({ bytes, publishedAt, arrivedAt, gapMs: last === undefined ? undefined : arrivedAt - last });
      last = arrivedAt;
    },
  };
}

describe('LinkRate', () => {
  test('knows nothing before a frame', () => {
    expect(new LinkRate().bandwidth).toBeUndefined();
  });

  test('finds the bandwidth of a link that frames queue for', () => {
    const { rate, send } = link(6250);
    for (let i = 0; i < 20; i++) send(i, 700_000);
    expect(rate.bandwidth).toBeCloseTo(6250, 0);
  });

  test('finds it too when the sender is slower than the link', () => {
    const { rate, send } = link(125_000);
    for (let i = 0; i < 20; i++) send(i * 40, 500_000);
    expect(rate.bandwidth).toBeCloseTo(125_000, 0);
  });

  test('finds it from a single frame', () => {
    const { rate, send } = link(6250);
    send(5, 100_000);
    expect(rate.bandwidth).toBeCloseTo(6250, 0);
  });

  test('follows a link that others share', () => {
    const { rate, send } = link(10_000);
    for (let i = 0; i < 20; i++) send(i, 100_000);
    // another link's frame passes before each of this one's
    const shared = new LinkRate(() => 0);
    shared.small(0, DELAY);
    for (let i = 1; i <= 20; i++)
      shared.frame({ bytes: 100_000, publishedAt: 0, arrivedAt: DELAY + 20 * i, gapMs: i === 1 ? undefined : 20 });
    expect(rate.bandwidth).toBeCloseTo(10_000, 0);
    expect(shared.bandwidth).toBeCloseTo(5_000, 0);
  });

  test('follows a link that changes', () => {
    const { rate, send } = link(10_000);
    for (let i = 0; i < 50; i++) send(10 * i, 100_000);
    const slower = { bytes: 100_000, gapMs: 100 };
    for (let i = 0; i < 40; i++) rate.frame({ ...slower, publishedAt: 500, arrivedAt: 500 + DELAY + CLOCKS + 100 * (i + 1) });
    expect(rate.bandwidth).toBeGreaterThan(900);
    expect(rate.bandwidth).toBeLessThan(1_100);
  });

  test('forgets the fastest message when it is old: clocks drift', () => {
    let now = 0;
    const rate = new LinkRate(() => now);
    rate.small(0, 0);
    now = 15_000;
    rate.small(now, now + 50);
    now = 30_000;
    rate.small(now, now + 50);
    rate.frame({ bytes: 1000, publishedAt: now, arrivedAt: now + 60, gapMs: 5000 });
    expect(rate.bandwidth).toBeCloseTo(100, 6);
  });
});
