/** Streams whose experts are in shards, and what becomes of them when something is done to a shard. */
import { type Cluster, type ClusterWorker, eventually } from '@causeway/testkit';
import { expect } from 'vitest';
import { difference, MAX_TOKENS, PROMPT, type Reference } from './answers.ts';
import { type Received, startAnswer } from './client.ts';
import { metric } from './metric.ts';

export const LIMIT_MS = 120_000;
const STREAMS = 8;
const SHORT_PROMPT = PROMPT.slice(-400);

/** What a failure of a shard may cost beyond what an undisturbed run shows on the same machine. */
const MOST_ADDED_MS = 1000;

export const SHARED = {
  CAUSEWAY_PRECISION: 'exact',
  CAUSEWAY_EXPERT_MODE: 'exact',
  CAUSEWAY_LEASE_MS: '1000',
  CAUSEWAY_MAX_SEQUENCES: String(STREAMS),
};

let asked = 0;

interface Timed {
  received: Received;
  /** Longest time between two tokens, in milliseconds. */
  gapMs: number;
}

/** Asks for one answer and notes the longest gap between its tokens. */
export async function ask(
  cluster: Cluster,
  onToken: (tokens: number) => void = () => undefined,
  placement: 'disaggregated' | 'local' = 'disaggregated',
): Promise<Timed> {
  let last: number | undefined;
  let gapMs = 0;
  const received = await startAnswer(cluster.router, {
    api: 'grpc',
    prompt: SHORT_PROMPT,
    maxTokens: MAX_TOKENS,
    temperature: 0,
    seed: 7,
    placement,
    requestId: `experts-${++asked}`,
    signal: AbortSignal.timeout(LIMIT_MS),
    onReceived: ({ ids }) => {
      const now = performance.now();
      if (last !== undefined) gapMs = Math.max(gapMs, now - last);
      last = now;
      onToken(ids.length);
    },
  }).done;
  return { received, gapMs };
}

export async function undisturbed(cluster: Cluster): Promise<Reference> {
  const { received } = await ask(cluster);
  expect(received.error).toBeUndefined();
  return { ids: received.ids, text: received.text };
}

/** Runs streams, calls `disturb` when each has some tokens, and expects every answer to be the undisturbed one. Gives the longest gap. */
export async function disturbed(cluster: Cluster, reference: Reference, disturb: () => Promise<void> | void): Promise<number> {
  const begun = new Set<number>();
  const all = Array.from({ length: STREAMS }, (_, stream) =>
    ask(cluster, (tokens) => {
      if (tokens >= 10) begun.add(stream);
    }),
  );
  await eventually(() => begun.size === STREAMS, { what: 'every stream to be under way', timeoutMs: 60_000 });
  await disturb();
  const answers = await Promise.all(all);
  for (const { received } of answers) {
    expect(difference(received, reference, 'grpc')).toBeUndefined();
    expect(received.attempts).toBe(1);
  }
  return Math.max(...answers.map(({ gapMs }) => gapMs));
}

/**
 * Expects a gap not to be a second longer than the longest without a failure: the one of before or, where the machine has got busier since,
 * one of now.
 */
export async function expectNoPause(cluster: Cluster, reference: Reference, gapMs: number, calmMs: number): Promise<void> {
  if (gapMs < calmMs + MOST_ADDED_MS) return;
  const nowMs = await disturbed(cluster, reference, () => undefined);
  expect(gapMs, 'longest gap in ms').toBeLessThan(Math.max(calmMs, nowMs) + MOST_ADDED_MS);
}

export const shards = (cluster: Cluster): ClusterWorker[] => cluster.workers.filter(({ role }) => role === 'expert');

/** Waits until a worker has so many shards. */
export async function connected(worker: ClusterWorker, count: number): Promise<void> {
  await eventually(async () => (await metric(worker.observability, 'causeway_expert_shards_connected')) === count, {
    what: `${worker.id} to reach ${count} shards`,
    timeoutMs: 30_000,
  });
}

/** Starts a dead shard anew and waits until it has its experts and every worker reaches it: the next failure meets two copies again. */
export async function again(cluster: Cluster, shard: ClusterWorker): Promise<void> {
  const fresh = await cluster.startWorker('expert', shard.id);
  await fresh.process.waitReady(fresh.observability, 60_000);
  const count = shards(cluster).length;
  for (const worker of cluster.workers) if (worker.role !== 'expert') await connected(worker, count);
}
