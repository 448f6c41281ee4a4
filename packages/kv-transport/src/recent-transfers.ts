/** How transfers ended, for those who still ask. Bounded in number and time. */
import type { ReceiverMessage } from './control.ts';
import type { Incarnation } from './subjects.ts';

export interface EndedTransfer {
  epoch: number;
  answer: ReceiverMessage;
  /** Undefined when no sender had said hello. */
  sender: Incarnation | undefined;
}

const MAX_ENTRIES = 4096;
const KEEP_MS = 120_000;

export class RecentTransfers {
  readonly #entries = new Map<string, EndedTransfer & { at: number }>();

  add(transferId: string, ended: EndedTransfer): void {
    const now = performance.now();
    for (const [id, { at }] of this.#entries) {
      if (now - at < KEEP_MS && this.#entries.size < MAX_ENTRIES) break;
      this.#entries.delete(id);
    }
    this.#entries.set(transferId, { ...ended, at: now });
  }

  get(transferId: string): EndedTransfer | undefined {
    return this.#entries.get(transferId);
  }
}
