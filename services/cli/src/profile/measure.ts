/** Measures workers that run, over the calls that a router makes: nothing is imitated, and nothing but the asking process is new. */
import type { WorkerRecord } from '@causeway/registry';
import type { ChannelPool } from '@causeway/rpc';
import { type AttemptResult, runAttempt, scrape } from '@causeway/testkit';

/** Tokens of every sequence that a decode figure is the mean of. */
const STEPS = 12;
/** Tokens of an answer that is given up once it was measured. */
const LONGEST_ANSWER = 512;

export interface Measuring {
  channels: ChannelPool;
  /** Tokens of a text; prompts are its first so many. */
  ids: readonly number[];
}

/** A transfer between two workers, and the prefill before it. */
export interface MeasuredTransfer {
  tokens: number;
  prefillSeconds: number;
  rawBytes: number;
  sentBytes: number;
  /** First frame to committed. */
  transferMs: number;
}

/** A prompt of so many tokens from one worker to the other. @throws ServiceError as the workers say */
export async function measureTransfer(
  { channels, ids }: Measuring,
  from: WorkerRecord,
  to: WorkerRecord,
  tokens: number,
): Promise<MeasuredTransfer> {
  const { sent } = await runAttempt({
    channels,
    model: from.model,
    prefill: from.address,
    decode: to.address,
    computeOrder: from.computeOrder,
    generation: { promptIds: ids.slice(0, tokens), maxTokens: 2, ignoreEos: true },
  });
  const stats = sent?.stats;
  if (stats === undefined) throw new Error(`${from.id} sent nothing to ${to.id}`);
  const { prefillMs, transferMs } = stats;
  return {
    tokens,
    prefillSeconds: prefillMs / 1000,
    rawBytes: Number(stats.rawBytes),
    sentBytes: Number(stats.sentBytes),
    transferMs,
  };
}

/**
 * What a step takes by the worker's own clock, ms, of `batch` sequences that it decodes together after prompts of `context` tokens, which
 * it reads itself: the mean from when all have begun until each has some more tokens. They are given up then.
 */
export async function measureDecode(
  { channels, ids }: Measuring,
  worker: WorkerRecord,
  batch: number,
  context: number,
): Promise<number> {
  const enough = new AbortController();
  const counts = Array.from({ length: batch }, () => 0);
  const begun = Promise.withResolvers<void>();
  /** Tokens that each sequence must have. */
  let wanted: number[] | undefined;
  const done = Promise.withResolvers<void>();
  const attempt = (_: number, i: number): Promise<AttemptResult> =>
    runAttempt({
      channels,
      model: worker.model,
      decode: worker.address,
      generation: {
        promptIds: ids.slice(0, context),
        maxTokens: Math.min(LONGEST_ANSWER, worker.contextLength - context),
        ignoreEos: true,
      },
      signal: enough.signal,
      onEvent: ({ event }) => {
        if (event?.$case !== 'token') return;
        counts[i] = (counts[i] as number) + 1;
        if (counts.every((count) => count > 0)) begun.resolve();
        if (wanted?.every((least, at) => (counts[at] as number) >= least) === true) done.resolve();
      },
    });
  const ends = Promise.allSettled(counts.map(attempt));
  /** They never end by themselves while they are measured. */
  const early = ends.then((all) => {
    throw all.find((end) => end.status === 'rejected')?.reason ?? new Error(`${worker.id}: the answers ended too early`);
  });
  early.catch(() => undefined);
  try {
    await Promise.race([begun.promise, early]);
    const before = await steps(worker);
    wanted = counts.map((count) => count + STEPS);
    await Promise.race([done.promise, early]);
    const after = await steps(worker);
    return (1000 * (after.seconds - before.seconds)) / (after.count - before.count);
  } finally {
    enough.abort();
    await ends;
  }
}

async function steps(worker: WorkerRecord): Promise<{ seconds: number; count: number }> {
  const metrics = await scrape(worker);
  return { seconds: metrics('causeway_decode_step_seconds_sum'), count: metrics('causeway_decode_step_seconds_count') };
}
