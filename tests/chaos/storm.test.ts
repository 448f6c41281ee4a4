/**
 * Workers are killed one after the other, without a pause, under the load of concurrent streams. Every answer must be the
 * undisturbed one; in the end nothing is left anywhere. CAUSEWAY_TEST_FULL=1: longer and with more streams.
 */
import { fileURLToPath } from 'node:url';
import { type Cluster, eventually, startCluster } from '@causeway/testkit';
import { expect, it } from 'vitest';
import { difference, PROMPT, type Reference } from './answers.ts';
import { type Received, startAnswer } from './client.ts';
import { metric } from './metric.ts';

const MODEL = fileURLToPath(new URL('../../models/tiny-moe', import.meta.url));
const FULL = process.env['CAUSEWAY_TEST_FULL'] === '1';
const STREAMS = FULL ? 8 : 4;
/** Every worker is killed as often at least. */
const ROUNDS = FULL ? 2 : 1;
/** The storm lasts so long at least. */
const STORM_MS = FULL ? 30_000 : 8_000;
const LIMIT_MS = 300_000;
const MAX_TOKENS = 120;

/** Prompts of different lengths, so that answers are in different phases at any time. */
const prompts = Array.from({ length: STREAMS }, (_, i) =>
  PROMPT.slice(i * 300).replace('Count from 1 to', `Count from ${i + 1} to`),
);

function ask(cluster: Cluster, stream: number, requestId: string): Promise<Received> {
  return startAnswer(cluster.router, {
    api: 'grpc',
    prompt: prompts[stream] ?? PROMPT,
    maxTokens: MAX_TOKENS,
    temperature: stream % 2 === 0 ? 0 : 0.3,
    seed: stream,
    placement: 'auto',
    requestId,
    signal: AbortSignal.timeout(LIMIT_MS),
  }).done;
}

it(
  'every worker is killed again and again under load: every answer is whole, every page comes back',
  async () => {
    await using cluster = await startCluster({
      model: MODEL,
      router: true,
      prefill: 2,
      decode: 2,
      nats: { maxPayload: 65_536 },
      // More losses meet one answer here than anywhere else.
      env: { router: { CAUSEWAY_RECOVERY: 'exact', CAUSEWAY_MAX_ATTEMPTS: '20' } },
    });
    const references: Reference[] = [];
    for (let stream = 0; stream < STREAMS; stream++) {
      const received = await ask(cluster, stream, `reference-${stream}`);
      expect(received).toMatchObject({ error: undefined, attempts: 1 });
      references.push({ ids: received.ids, text: received.text });
    }

    const differences: string[] = [];
    let answers = 0;
    let continued = 0;
    let over = false;
    const stream = async (index: number): Promise<void> => {
      for (let n = 0; !over; n++) {
        const received = await ask(cluster, index, `storm-${index}-${n}`);
        const wrong = difference(received, references[index]!, 'grpc');
        if (wrong !== undefined) differences.push(`storm-${index}-${n}: ${wrong}`);
        answers++;
        if ((received.attempts ?? 1) > 1 || received.outcome === 'recomputed') continued++;
      }
    };
    const end = performance.now() + STORM_MS;
    const kills = new Map<string, number>();
    // One worker of a role at a time, both roles at once.
    const storm = async (role: 'prefill' | 'decode'): Promise<void> => {
      for (let n = 0; n < 2 * ROUNDS || performance.now() < end; n++) {
        const worker = cluster.worker(`${role}-${(n % 2) + 1}`);
        await worker.process.kill();
        kills.set(worker.id, (kills.get(worker.id) ?? 0) + 1);
        await cluster.startWorker(role, worker.id);
      }
    };
    const storms = Promise.all([storm('prefill'), storm('decode')]).finally(() => (over = true));
    await Promise.all([storms, ...references.map((_, index) => stream(index))]);

    const killed = [...kills].map(([id, count]) => `${id} ${count} times`).join(', ');
    console.log(
      `\nstorm: ${answers} answers over ${STREAMS} streams, ${continued} of them continued or recomputed; killed ${killed}`,
    );
    expect(differences).toEqual([]);
    expect(kills.size).toBe(4);
    expect(continued).toBeGreaterThan(0);
    for (const worker of cluster.workers) {
      await worker.process.waitReady(worker.observability);
      await eventually(async () => (await metric(worker.observability, 'causeway_kv_pages{state="used"}')) === 0, {
        what: `all pages of ${worker.id} free`,
      });
    }
    for (const name of ['vllm:num_requests_running{model_name="tiny-moe"}', 'causeway_router_queue_depth']) {
      expect((await metric(cluster.router.observability, name)) ?? 0).toBe(0);
    }
  },
  LIMIT_MS,
);
