/** CPU that all requests together may use in one turn of the event loop, ms; design section 5 allows 5. */
const BUDGET_MS = 2;

let startedAt: number | undefined;

/**
 * Undefined while this turn of the event loop has time left, else a promise to await: it resolves in the next turn. Called once per
 * token: tokens come in bursts when a worker was ahead, and microtasks alone would never let the loop go on.
 */
export function nextTurn(): Promise<void> | undefined {
  const now = performance.now();
  if (startedAt === undefined) {
    startedAt = now;
    setImmediate(endTurn);
    return undefined;
  }
  return now - startedAt < BUDGET_MS ? undefined : new Promise((resolve) => setImmediate(resolve));
}

function endTurn(): void {
  startedAt = undefined;
}
