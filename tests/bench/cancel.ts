/**
 * Time from a client's cancellation to the last work done for it, over many requests cancelled at random moments of their life, beside
 * streams that go on. Read from each worker's own histogram, causeway_cancel_seconds, and from the router's log.
 *   node tests/bench/cancel.ts [--model models/tiny-moe] [--requests 200] [--beside 2] [--threads 1] [--name cancel]
 */
import { basename } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { startCluster } from '@causeway/testkit';
import { flag, spread, writeReport } from './bench-report.ts';

const model = flag('model', 'models/tiny-moe');
const modelName = basename(model);
const requests = Number(flag('requests', '200'));
const beside = Number(flag('beside', '2'));
const threads = Number(flag('threads', '1'));
/** Longest wait before a request is cancelled, ms: by then its answer is under way. */
const LATEST_MS = Number(flag('latest', '400'));

await using cluster = await startCluster({
  model,
  modelName,
  router: true,
  workerEnv: { CAUSEWAY_THREADS: String(threads), CAUSEWAY_LOG_LEVEL: 'info' },
});
const prompt = `Read these notes. ${'Mia put the map in the garden. Tom sleeps in room 88. '.repeat(40)}Count from 1 to 99.`;

/** One answer of 400 tokens, given up when `signal` aborts. Gives the phase that it had reached. */
async function ask(signal: AbortSignal): Promise<'before the first token' | 'while it was written' | 'complete'> {
  let tokens = 0;
  try {
    const response = await fetch(`http://${cluster.router.http}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        model: modelName,
        messages: [{ role: 'user', content: prompt }],
        max_tokens: 400,
        stream: true,
        causeway: { placement: 'disaggregated' },
      }),
      signal,
    });
    if (!response.ok || response.body === null) throw new Error(`${response.status}: ${await response.text()}`);
    for await (const _bytes of response.body) tokens++;
    return 'complete';
  } catch (error) {
    if (!signal.aborted) throw error;
    return tokens > 1 ? 'while it was written' : 'before the first token';
  }
}

const stop = new AbortController();
const background = Array.from({ length: beside }, async () => {
  while (!stop.signal.aborted) await ask(stop.signal);
});
let state = 1;
const random = (): number => (state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0) / 2 ** 32;
const phases: string[] = [];
for (let i = 0; i < requests; i++) {
  const caller = new AbortController();
  const running = ask(caller.signal);
  await wait(random() * LATEST_MS);
  caller.abort();
  phases.push(await running);
}
stop.abort();
await Promise.all(background);
await wait(500);

const observations = cluster.workers.flatMap((worker) =>
  worker.process
    .logs()
    .filter((line) => line['msg'] === 'cancelled')
    .map((line) => ({ worker: worker.id, ms: Number(line['seconds']) * 1000 })),
);
const milliseconds = observations.map(({ ms }) => ms).sort((a, b) => a - b);
const quantile = (q: number): number =>
  milliseconds[Math.min(milliseconds.length - 1, Math.floor(q * milliseconds.length))] as number;
const bounds = [1, 2, 5, 10, 20, 50, 100, 200, 500, Number.POSITIVE_INFINITY];
const histogram = bounds.map((bound, i) => ({
  upToMs: Number.isFinite(bound) ? bound : null,
  cancellations: milliseconds.filter((ms) => ms <= bound && ms > (bounds[i - 1] ?? -1)).length,
}));
const summary = {
  cancellations: milliseconds.length,
  phases: Object.fromEntries([...new Set(phases)].map((phase) => [phase, phases.filter((other) => other === phase).length])),
  ms: { ...spread(milliseconds), p90: quantile(0.9), p99: quantile(0.99) },
  histogram,
};
console.log(JSON.stringify(summary, undefined, 2));
writeReport(flag('name', 'cancel'), {
  command: `node tests/bench/cancel.ts ${process.argv.slice(2).join(' ')}`.trim(),
  peers: {},
  setting: { model: modelName, requests, beside, threads, latestMs: LATEST_MS },
  repeats: observations,
  summary,
});
