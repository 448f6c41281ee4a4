import { describe, expect, test } from 'vitest';
import { CreditBudget } from './credit.ts';

const MIB = 1 << 20;

function clock() {
  let time = 0;
  return { now: () => time, advance: (ms: number) => (time += ms) };
}

describe('credits', () => {
  test('are never given for KV that does not exist yet', () => {
    const budget = new CreditBudget({ budgetBytes: 16 * MIB });
    const account = budget.open(1000, 1, () => undefined);
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
      const state = { received: 0, account: budget.open(MIB, 1, () => undefined) };
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
          budget.arrived(MIB);
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
    const silent = budget.open(MIB, 1, () => undefined);
    silent.offered(100 * MIB);
    silent.grant();
    expect(budget.outstanding).toBe(4 * MIB);
    const other = budget.open(MIB, 1, () => undefined);
    other.offered(100 * MIB);
    expect(other.grant()).toBe(false);
    time.advance(4000);
    other.heard();
    expect(other.grant()).toBe(true);
  });

  test('set free by one transfer reach the one that waits, and it is told', () => {
    let told = 0;
    const budget = new CreditBudget({ budgetBytes: 2 * MIB });
    const first = budget.open(MIB, 1, () => undefined);
    first.offered(50 * MIB);
    first.grant();
    const second = budget.open(MIB, 1, () => told++);
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
      const account = budget.open(65_536, responseMs, () => undefined);
      account.offered(1000 * MIB);
      let received = 0;
      for (let round = 0; round < 200; round++) {
        account.grant();
        time.advance(responseMs);
        // the window arrives at 200 MB/s
        while (received + 65_536 <= account.upTo) {
          time.advance(65_536 / 200_000);
          budget.arrived(65_536);
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
