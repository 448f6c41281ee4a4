/**
 * Credits of one connection: how far each open inbound transfer may send. Granted and not yet received bytes of all transfers
 * stay under one budget; within it a transfer's window follows twice measured bandwidth x round trip.
 */

import type { LinkMeter } from './link-meter.ts';

/** Credits of one transfer. Positions are raw bytes in object, then part order. */
export interface CreditAccount {
  /** Grants as far as window, offer and budget allow. Returns true when the limit moved. */
  grant(): boolean;
  readonly upTo: number;
  /** The sender has KV up to here. */
  offered(bytes: number): void;
  /** A sign of life of the sender. */
  heard(): void;
  /** `bytes` more raw bytes are in place; the last of them ends at `end`. */
  received(bytes: number, end: number): void;
  readonly window: number;
  close(): void;
}

export interface CreditBudgetOptions {
  /** Open credits of all transfers together, bytes. */
  budgetBytes: number;
  now?: () => number;
}

/** Credits that a silent sender holds aren't counted after this time, or a dead one would starve the others. */
const SILENT_MS = 3_000;

interface Account extends CreditAccount {
  outstanding(now: number): number;
  /** Has KV to take that no credit covers. */
  readonly wanting: boolean;
  readonly granted: () => void;
}

/** Shares the budget among open transfers, first come first served. */
export class CreditBudget {
  readonly #budget: number;
  readonly #now: () => number;
  readonly #accounts = new Set<Account>();

  constructor(options: CreditBudgetOptions) {
    this.#budget = options.budgetBytes;
    this.#now = options.now ?? (() => performance.now());
  }

  /** Bytes granted and not received, over all transfers that were heard lately. */
  get outstanding(): number {
    const now = this.#now();
    let sum = 0;
    for (const account of this.#accounts) sum += account.outstanding(now);
    return sum;
  }

  /**
   * An account for a transfer over `link`, cut into parts of at most `partBytes`; `rttMs` is the round trip sender - server - receiver.
   * `granted` is called when another transfer's progress made room for this one.
   */
  open(link: Pick<LinkMeter, 'bandwidth'>, partBytes: number, rttMs: number, granted: () => void): CreditAccount {
    const floor = 4 * partBytes;
    let upTo = 0;
    let received = 0;
    let offered = 0;
    let window = Math.min(floor, this.#budget);
    let minResponse = Math.max(rttMs, 0.1);
    let sampleFrom = 0;
    let sampleAt: number | undefined;
    let lastHeard = this.#now();
    let sawResponse = false;
    const account: Account = {
      get upTo() {
        return upTo;
      },
      get window() {
        return window;
      },
      outstanding: (now) => (now - lastHeard > SILENT_MS ? 0 : Math.max(0, upTo - received)),
      offered: (bytes) => {
        offered = Math.max(offered, bytes);
      },
      heard: () => {
        lastHeard = this.#now();
      },
      received: (bytes, end) => {
        lastHeard = this.#now();
        received += bytes;
        if (sampleAt !== undefined && end > sampleFrom) {
          // the first part that only the timed credit permitted: one response time of a sender that waited for credit
          const response = this.#now() - sampleAt;
          minResponse = sawResponse ? Math.min(minResponse, response) : response;
          sawResponse = true;
          sampleAt = undefined;
        }
        const target = 2 * link.bandwidth * minResponse;
        window = Math.min(this.#budget, Math.max(floor, window, Math.min(target, 2 * window)));
        this.#serveOthers(account);
      },
      get wanting() {
        return offered > upTo;
      },
      granted,
      grant: () => {
        const room = Math.max(0, this.#budget - (this.outstanding - account.outstanding(this.#now())));
        const share = Math.max(partBytes, this.#budget / this.#active(account));
        const limit = Math.floor(Math.min(offered, received + Math.min(window, room, share)));
        // parts are sent whole: a step below one part would only cost messages, unless it is the last
        if (limit <= upTo || (limit < offered && limit - upTo < partBytes)) return false;
        if (sampleAt === undefined && offered > upTo) {
          sampleFrom = upTo;
          sampleAt = this.#now();
        }
        upTo = limit;
        return true;
      },
      close: () => {
        if (this.#accounts.delete(account)) this.#serveOthers(account);
      },
    };
    this.#accounts.add(account);
    return account;
  }

  /** Transfers that hold or want credit, this one included. */
  #active(self: Account): number {
    const now = this.#now();
    let active = 1;
    for (const account of this.#accounts) if (account !== self && (account.wanting || account.outstanding(now) > 0)) active++;
    return active;
  }

  /** Gives what was set free to those who wait, before the transfer that set it free asks again; longest waiting first. */
  #serveOthers(self: Account): void {
    const idle = [...this.#accounts].filter(
      (account) => account !== self && account.wanting && account.outstanding(this.#now()) === 0,
    );
    for (const account of idle) {
      if (!account.grant()) continue;
      this.#accounts.delete(account);
      this.#accounts.add(account);
      account.granted();
    }
  }
}
