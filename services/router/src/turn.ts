/** CPU that all requests together may use in one turn of the event loop, ms; design section 5 allows 5. */
const BUDGET_MS = 2;

let startedAt: number | undefined;

/**
 * Undefined while this turn of the event loop has time left, else a promise to await: it resolves in a turn that has. Called before
 * work that many requests may want at once, and once per token: tokens come in bursts when a worker was ahead, and microtasks alone
 * would never let the loop go on.
 */
export function nextTurn(): Promise<void> | undefined {
  return hasTime() ? undefined : turnWithTime();
}

/** All that wait resume in the same phase of the loop: each looks again whether those before it have left time. */
async function turnWithTime(): Promise<void> {
  do await new Promise((resolve) => setImmediate(resolve));
  while (!hasTime());
}

function hasTime(): boolean {
  const now = performance.now();
  if (startedAt !== undefined) return now - startedAt < BUDGET_MS;
  startedAt = now;
  setImmediate(endTurn);
  return true;
}

function endTurn(): void {
  startedAt = undefined;
}
