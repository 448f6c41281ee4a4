import { describe, expect, test } from 'vitest';
import { CreditBudget } from './credit.ts';
import { LinkMeter, LinkMeters } from './link-meter.ts';

const MIB = 1 << 20;
const link = { bandwidth: 0 };

function clock() {
  let time = 0;
  return { now: () => time, advance: (ms: number) => (time += ms) };
}

describe('credits', () => {
  test('are never given for KV that does not exist yet', () => {
    const budget = new CreditBudget({ budgetBytes: 16 * MIB });
    const account = budget.open(link, 1000, 1, () => undefined);
    expect(account.grant()).toBe(false);
    account.offered(2500);
    expect(account.grant()).toBe(true);
    expect(account.upTo).toBe(2500);
    expect(account.grant()).toBe(false);
  });

  test('of all transfers together stay under the budget, and nobody starves', () => {
    const time = clock();
    const budget = new CreditBudget({ budgetBytes: 16 * MIB, now: time.now });
    const total = 40 * MIB;
    const transfers = Array.from({ length: 12 }, () => {
      const state = { received: 0, account: budget.open(link, MIB, 1, () => undefined) };
      state.account.offered(total);
      return state;
    });
    for (let round = 0; round < 4000 && transfers.some((t) => t.received < total); round++) {
      time.advance(1);
      for (const transfer of transfers) {
        transfer.account.grant();
        expect(budget.outstanding).toBeLessThanOrEqual(16 * MIB);
        if (transfer.received + MIB <= transfer.account.upTo) {
          transfer.received += MIB;
          transfer.account.received(MIB, transfer.received);
        }
      }
    }
    expect(transfers.map((transfer) => transfer.received)).toEqual(transfers.map(() => total));
    for (const transfer of transfers) transfer.account.close();
    expect(budget.outstanding).toBe(0);
  });

  test('of a sender that fell silent stop counting', () => {
    const time = clock();
    const budget = new CreditBudget({ budgetBytes: 4 * MIB, now: time.now });
    const silent = budget.open(link, MIB, 1, () => undefined);
    silent.offered(100 * MIB);
    silent.grant();
    expect(budget.outstanding).toBe(4 * MIB);
    const other = budget.open(link, MIB, 1, () => undefined);
    other.offered(100 * MIB);
    expect(other.grant()).toBe(false);
    time.advance(4000);
    other.heard();
    expect(other.grant()).toBe(true);
  });

  test('set free by one transfer reach the one that waits, and it is told', () => {
    let told = 0;
    const budget = new CreditBudget({ budgetBytes: 2 * MIB });
    const first = budget.open(link, MIB, 1, () => undefined);
    first.offered(50 * MIB);
    first.grant();
    const second = budget.open(link, MIB, 1, () => told++);
    second.offered(50 * MIB);
    expect(second.grant()).toBe(false);
    first.received(MIB, MIB);
    expect(told).toBe(1);
    expect(second.upTo).toBe(MIB);
  });

  test('grow with bandwidth x round trip', () => {
    const windowAfter = (responseMs: number) => {
      const time = clock();
      const budget = new CreditBudget({ budgetBytes: 16 * MIB, now: time.now });
      const link = new LinkMeter(time.now);
      const account = budget.open(link, 65_536, responseMs, () => undefined);
      account.offered(1000 * MIB);
      let received = 0;
      for (let round = 0; round < 200; round++) {
        account.grant();
        time.advance(responseMs);
        // the window arrives at 200 MB/s
        while (received + 65_536 <= account.upTo) {
          time.advance(65_536 / 200_000);
          link.arrived(65_536);
          received += 65_536;
          account.received(65_536, received);
        }
      }
      return account.window;
    };
    const near = windowAfter(1);
    const far = windowAfter(15);
    expect(near).toBeGreaterThanOrEqual(4 * 65_536);
    expect(near).toBeLessThan(2 * MIB);
    expect(far).toBeGreaterThan(4 * near);
    expect(far).toBeLessThanOrEqual(16 * MIB);
  });
});

describe('links', () => {
  test('are measured each by itself, and known again by their incarnation', () => {
    const meters = new LinkMeters();
    const near = { workerId: 'near', incarnation: '1' };
    const far = { workerId: 'far', incarnation: '1' };
    expect(meters.of(near)).toBe(meters.of(near));
    expect(meters.of(far)).not.toBe(meters.of(near));
    expect(meters.of({ ...near, incarnation: '2' })).not.toBe(meters.of(near));
  });

  test('carry what arrived while they were busy', () => {
    const time = clock();
    const fast = new LinkMeter(time.now);
    const slow = new LinkMeter(time.now);
    for (let ms = 0; ms < 200; ms++) {
      time.advance(1);
      fast.arrived(100_000);
      if (ms % 10 === 0) slow.arrived(100_000);
    }
    time.advance(10_000);
    expect(fast.bandwidth).toBeCloseTo(100_000, -4);
    expect(slow.bandwidth).toBeCloseTo(10_000, -3);
  });
});
