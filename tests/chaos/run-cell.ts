/** One cell of the failure table, from an idle cluster to an idle cluster. */
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { FailpointName } from '@causeway/failpoints';
import { eventually } from '@causeway/testkit';
import { ARMING, type Cell, TOKENS_BY } from './cells.ts';
import { type RunningAnswer, startAnswer } from './client.ts';
import { contradiction, difference, longRequest, type Reference } from './answers.ts';
import type { Lane } from './lane.ts';
import { strike } from './victims.ts';

/** From the release of the paused request to its end: longer is a hang. STOP alone takes 15 s of it. */
const ANSWER_LIMIT_MS = 90_000;

/** What came of a cell. */
export interface CellResult {
  readonly cell: Cell;
  /** The failpoint was met and the signal had its effect while the request waited there. */
  readonly exercised: boolean;
  /** Undefined: as it should be. */
  readonly failure: string | undefined;
  readonly outcome: string;
  readonly attempts: number | undefined;
  /** Tokens that the client had when the signal came. */
  readonly tokensBefore: number;
  /** From the signal to the answer's end; of a killed router, to the end of the same request at its successor. */
  readonly seconds: number;
}

interface Progress {
  exercised: boolean;
  outcome: string;
  attempts: number | undefined;
  tokensBefore: number;
  seconds: number;
}

/** Runs a cell. Never throws: what went wrong is in the result. */
export async function runCell(lane: Lane, cell: Cell): Promise<CellResult> {
  const progress: Progress = { exercised: false, outcome: '', attempts: undefined, tokensBefore: 0, seconds: 0 };
  const given = new AbortController();
  let failure: string | undefined;
  try {
    await meet(lane, cell, progress, given.signal);
  } catch (error) {
    failure = `${error instanceof Error ? error.message : String(error)}\n${lane.story()}`;
  } finally {
    given.abort();
  }
  return { cell, ...progress, failure };
}

async function meet(lane: Lane, cell: Cell, progress: Progress, signal: AbortSignal): Promise<void> {
  const dir = await lane.prepare(cell);
  const reference = lane.reference(cell.temperature);
  const id = `chaos-${cell.phase}-${cell.victim}-${cell.signal}`.toLowerCase().replaceAll('_', '-');
  const running = startAnswer(lane.router, longRequest(cell, id, signal));
  const dead = await reach(lane, cell, dir, id, running);
  const tokens = TOKENS_BY[cell.phase] ?? 0;
  // Over HTTP a token without text of its own brings no chunk.
  const due = cell.api === 'grpc' ? tokens : Math.min(1, tokens);
  await eventually(() => tokensAt(running, cell) >= due, { intervalMs: 2, what: `${due} tokens at the client` });

  progress.tokensBefore = tokensAt(running, cell);
  const began = performance.now();
  const { back } = await strike(lane, cell, id);
  await release(dir, cell.phase);
  // The place of a worker killed on the way is taken again, but not before the answer had to go elsewhere.
  const successor = dead === undefined ? Promise.resolve() : lane.restartWorker(dead);
  const endedAt = running.done.then(() => performance.now());
  const helpedAt = Promise.race(dead === undefined ? [back] : [back, successor]).then(() => performance.now());
  const [received] = await Promise.all([ended(running), back, successor]);
  const waited = (await endedAt) >= (await helpedAt);
  progress.outcome = received.outcome ?? '';
  progress.attempts = received.attempts;
  progress.seconds = (performance.now() - began) / 1000;
  progress.exercised = touched(cell, received, waited);
  const routerKilled = cell.victim === 'router' && cell.signal === 'KILL';
  const wrong = routerKilled ? brokenAsExpected(received, reference) : difference(received, reference, cell.api);
  if (wrong !== undefined) throw new Error(wrong);
  if (!progress.exercised) throw new Error(`the failure left no trace in the answer: ${cell.victim} was not needed any more`);

  await lane.whole();
  await lane.idle();
  await lane.stopSpares();
  await lane.whole();
  const again = await ended(startAnswer(lane.router, longRequest(cell, `${id}-again`, signal)));
  if (routerKilled) {
    progress.outcome = `broken, then ${again.outcome ?? '?'}`;
    progress.attempts = again.attempts;
    progress.seconds = (performance.now() - began) / 1000;
  }
  const afterwards = difference(again, reference, cell.api);
  if (afterwards !== undefined) throw new Error(`afterwards the same request went wrong: ${afterwards}`);
  await lane.idle();
}

/** Tokens that the client has. Over HTTP the first chunk brings the role and an empty content, and no token. */
function tokensAt({ received }: RunningAnswer, cell: Cell): number {
  return cell.api === 'grpc' ? received.pieces : Math.max(0, received.pieces - 1);
}

/**
 * Whether the answer shows that its victim was needed: a lost decode worker costs an attempt, a prompt whose prefill worker was
 * lost before the commit is prefilled again. At `migrating` no decode worker is left: the answer cannot end before one is back.
 */
function touched(cell: Cell, received: RunningAnswer['received'], waited: boolean): boolean {
  const again = (received.attempts ?? 1) > 1;
  if (cell.phase === 'migrating' && cell.victim === 'decode') return again && waited;
  if (cell.victim === 'decode') return again;
  const beforeCommit = cell.phase === 'reserved' || cell.phase === 'after_frame_k' || cell.phase === 'sent';
  if (cell.victim === 'prefill' && cell.signal === 'KILL' && beforeCommit) return again || received.outcome === 'recomputed';
  return true;
}

/** Brings the request to the cell's phase: it waits at the failpoint. Gives the decode worker that had to die for it. */
async function reach(lane: Lane, cell: Cell, dir: string, id: string, running: RunningAnswer): Promise<string | undefined> {
  if (cell.phase !== 'migrating') {
    await hit(lane, dir, cell, cell.phase, running);
    return undefined;
  }
  await hit(lane, dir, cell, 'mid_decode', running);
  const { decode } = await lane.attempt(id);
  await lane.worker(decode).process.kill();
  await release(dir, 'mid_decode');
  await hit(lane, dir, cell, 'migrating', running);
  return decode;
}

/** Waits until an armed process has met the failpoint; the request waits there. */
async function hit(lane: Lane, dir: string, cell: Cell, name: FailpointName, running: RunningAnswer): Promise<void> {
  const role = ARMING[cell.phase].process;
  const processes = role === 'router' ? [lane.router.process] : lane.workers(role).map((worker) => worker.process);
  const met = await eventually(
    () => {
      if (running.received.ended) return 'ended';
      return processes.some(({ pid }) => existsSync(join(dir, `${name}.${pid}.hit`))) && 'met';
    },
    { timeoutMs: 30_000, intervalMs: 2, what: `${role} at ${name}` },
  );
  if (met === 'met') return;
  throw new Error(`the request ended without ${name} at ${role}: ${running.received.error?.message ?? 'complete'}`);
}

function release(dir: string, name: FailpointName): Promise<void> {
  return writeFile(join(dir, `${name}.go`), '');
}

/** The request's end, or an error that says it hangs. */
async function ended(running: RunningAnswer): Promise<RunningAnswer['received']> {
  const limit = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    const { ids, text } = running.received;
    limit.reject(
      new Error(`the answer hangs: ${ids.length} tokens, ${text.length} characters after ${ANSWER_LIMIT_MS / 1000} s`),
    );
  }, ANSWER_LIMIT_MS);
  try {
    return await Promise.race([running.done, limit.promise]);
  } finally {
    clearTimeout(timer);
  }
}

function brokenAsExpected(received: RunningAnswer['received'], reference: Reference): string | undefined {
  if (received.error === undefined) return 'the router was killed, yet its stream ended as if nothing had happened';
  return contradiction(received, reference);
}
