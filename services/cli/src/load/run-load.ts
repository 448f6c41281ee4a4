import { setTimeout as wait } from 'node:timers/promises';
import { type PlannedRequest, promptText } from './load-plan.ts';
import { type RequestRecord, type Target, timedRequest } from './timed-request.ts';

export interface LoadRun {
  target: Target;
  plan: readonly PlannedRequest[];
  /** Requests under way at once, for plans without times. Plans with times are open loop: they wait for no answer. */
  concurrency: number;
  /** Ends the run: nothing more is sent, and what is under way stays unfinished. */
  stop: AbortSignal;
  onProgress?: (progress: { sent: number; ended: number; total: number }) => void;
}

/** Sends every request of the plan and gives the records in order of sending. Never throws. */
export async function runLoad(run: LoadRun): Promise<RequestRecord[]> {
  const { plan, stop, target } = run;
  const startedAt = performance.now();
  const records: RequestRecord[] = [];
  let sent = 0;
  let ended = 0;
  const send = async (request: PlannedRequest, prompt: string): Promise<void> => {
    const index = sent++;
    run.onProgress?.({ sent, ended, total: plan.length });
    records[index] = await timedRequest(target, prompt, request.outputTokens, { startedAt, plannedMs: request.atMs }, stop);
    ended++;
    run.onProgress?.({ sent, ended, total: plan.length });
  };
  if (plan.some(({ atMs }) => atMs === undefined)) await closedLoop(run, send);
  else await openLoop(run, startedAt, send);
  return records;
}

type Send = (request: PlannedRequest, prompt: string) => Promise<void>;

async function openLoop({ plan, stop }: LoadRun, startedAt: number, send: Send): Promise<void> {
  const under: Promise<void>[] = [];
  for (const request of plan) {
    // Made before its time comes, so that making it delays nothing.
    const prompt = promptText(request.blocks);
    const delay = (request.atMs ?? 0) - (performance.now() - startedAt);
    if (delay > 0) await wait(delay, undefined, { signal: stop }).catch(() => undefined);
    if (stop.aborted) break;
    under.push(send(request, prompt));
  }
  await Promise.all(under);
}

async function closedLoop({ plan, stop, concurrency }: LoadRun, send: Send): Promise<void> {
  const next = plan.values();
  const client = async (): Promise<void> => {
    for (const request of next) {
      if (stop.aborted) return;
      await send(request, promptText(request.blocks));
    }
  };
  await Promise.all(Array.from({ length: Math.min(concurrency, plan.length) }, client));
}
