/** Three answers to one prompt while a worker is killed in each phase of their way: every answer has the tokens of an undisturbed run. */
import { fileURLToPath } from 'node:url';
import { inferenceV1 } from '@causeway/proto';
import { createChannelPool } from '@causeway/rpc';
import { type Cluster, eventually, startCluster } from '@causeway/testkit';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { metric } from './metric.ts';

// Starting processes takes seconds, and on a busy machine many.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 240_000 });

const MODEL = fileURLToPath(new URL('../../models/tiny-moe', import.meta.url));
const PROMPT = `Read these notes. ${'Mia put the map in the garden. Tom sleeps in room 88. '.repeat(12)}Count from 1 to 60.`;
const CHOICES = 3;
const TOKENS = 40;

let cluster: Cluster;
let undisturbed: number[][];

beforeAll(async () => {
  cluster = await startCluster({
    model: MODEL,
    router: true,
    // Frames enough for a transfer to be cut in the middle.
    nats: { maxPayload: 65_536 },
    env: { router: { CAUSEWAY_PLACEMENT: 'disaggregated' } },
  });
  const { ids, usage } = await ask();
  expect(usage?.kv).toMatchObject({ outcome: 'used', attempts: 1 });
  undisturbed = ids;
});
afterAll(() => cluster?.[Symbol.asyncDispose]());

async function ask(): Promise<{ ids: number[][]; usage: inferenceV1.Usage | undefined }> {
  using channels = createChannelPool();
  const client = channels.client(inferenceV1.InferenceDefinition, cluster.router.grpc);
  const ids: number[][] = Array.from({ length: CHOICES }, () => []);
  let usage: inferenceV1.Usage | undefined;
  const request = inferenceV1.GenerateRequest.fromPartial({
    input: { $case: 'prompt', value: PROMPT },
    sampling: { temperature: 0.8, seed: 21n },
    maxTokens: TOKENS,
    ignoreEos: true,
    n: CHOICES,
  });
  for await (const message of client.generate(request)) {
    ids[message.choice]?.push(...message.tokenIds);
    usage ??= message.usage;
  }
  return { ids, usage };
}

/** Waits until the router knows both workers, as they are now. */
async function seen(): Promise<void> {
  await eventually(
    async () => {
      const counts = await Promise.all(
        ['prefill', 'decode'].map((role) => metric(cluster.router.observability, `causeway_registry_workers{role="${role}"}`)),
      );
      return counts.every((count) => count === 1);
    },
    { what: 'one worker of each role seen', timeoutMs: 60_000 },
  );
}

it.each([
  ['prefill', 'after_frame_k:2=kill', 'the transfer under way, no first token out', { outcome: 'recomputed' }],
  ['prefill', 'sent=kill', 'first tokens out, the commit unsaid', {}],
  ['decode', 'committed_before_first_token=kill', 'the KV is there, nothing decoded', { outcome: 'used' }],
] as const)('the %s worker killed at %s: %s', async (role, point, _, kv) => {
  const id = `${role}-1`;
  await cluster.worker(id).process.kill();
  const armed = await cluster.startWorker(role, id, { CAUSEWAY_FAILPOINTS: point });
  await seen();
  const asking = ask();
  // Whoever isn't killed wasn't tested.
  await armed.process.exited;
  // Whoever comes back takes over where the other role's worker can't.
  await cluster.startWorker(role, id);
  const { ids, usage } = await asking;
  expect(ids).toEqual(undisturbed);
  expect(usage).toMatchObject({ completionTokens: CHOICES * TOKENS, kv });
  // A decode worker takes all of an attempt with it.
  if (role === 'decode') expect(usage?.kv?.attempts).toBeGreaterThan(1);
  for (const worker of cluster.workers) {
    await eventually(async () => (await metric(worker.observability, 'causeway_kv_pages{state="used"}')) === 0, {
      what: `all pages of ${worker.id} free`,
    });
  }
});
