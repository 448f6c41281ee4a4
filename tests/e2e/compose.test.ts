/**
 * docker-compose.yml as a user meets it: the image is built from deploy/docker/Dockerfile and everything but Grafana is started, by a
 * Docker daemon of the test's own. Base images are made of this machine's programs. CAUSEWAY_TEST_FULL=1 runs it, as root.
 */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { inferenceV1 } from '@causeway/proto';
import { createChannelPool } from '@causeway/rpc';
import { eventually } from '@causeway/testkit';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { importBaseImages } from './compose/base-images.ts';
import { type Daemon, daemonPossible, startDaemon } from './compose/daemon.ts';
import { createProject, type Project, PROCESSES, SHARDS, WORKERS } from './compose/project.ts';

const skip = process.env['CAUSEWAY_TEST_FULL'] !== '1' || !daemonPossible();
const CONTENT = 'What is the capital of France?';
const ANSWER = 'The capital of France is Paris.';

/** The answer's report on its KV, as `usage.causeway` has it. */
interface Kv {
  outcome: string;
  bytes_sent: number;
  prefill_worker: string;
  prefill_chip: string;
  decode_worker: string;
  decode_chip: string;
  rounded: boolean;
  expert_calls: Record<string, number>;
}

/** What the topology's pools make of an answer: read on one chip family, written on another, without loss. */
const CROSSED = {
  outcome: 'used',
  prefill_worker: expect.stringMatching(/^prefill-\d$/) as string,
  prefill_chip: 'nvidia (emulated)',
  decode_worker: expect.stringMatching(/^decode-\d$/) as string,
  decode_chip: 'ascend (emulated)',
  rounded: false,
};

describe.skipIf(skip)('docker-compose.yml, built and started', () => {
  let daemon: Daemon;
  let project: Project;
  let baseSize: number;

  beforeAll(async () => {
    daemon = await startDaemon();
    const images = await importBaseImages(daemon);
    baseSize = await imageSize(images.CAUSEWAY_BASE_IMAGE);
    project = await createProject(daemon, images);
    await project.up();
  }, 1_200_000);

  afterAll(async () => {
    await daemon?.remove();
  }, 300_000);

  async function imageSize(reference: string): Promise<number> {
    return Number(await daemon.docker(['image', 'inspect', '--format', '{{.Size}}', reference]));
  }

  async function ask(): Promise<{ text: string | null | undefined; kv: Kv }> {
    const client = new OpenAI({
      baseURL: `http://127.0.0.1:${project.ports.http}/v1`,
      apiKey: 'none',
      maxRetries: 0,
      timeout: 20_000,
    });
    const messages = [{ role: 'user' as const, content: CONTENT }];
    const request = { model: 'tiny-moe', messages, temperature: 0, causeway: { placement: 'disaggregated' } };
    const answer = await client.chat.completions.create(request);
    return { text: answer.choices[0]?.message.content, kv: (answer.usage as unknown as { causeway: Kv }).causeway };
  }

  /** Samples of a query by their `job` label. */
  async function query(expression: string): Promise<Map<string, number>> {
    const url = `http://127.0.0.1:${project.ports.prometheus}/api/v1/query?query=${encodeURIComponent(expression)}`;
    const body = (await (await fetch(url)).json()) as {
      data: { result: { metric: { job?: string }; value: [number, string] }[] };
    };
    return new Map(body.data.result.map(({ metric, value }) => [metric.job ?? '', Number(value[1])]));
  }

  it('has one image for every process, run as a user without rights and without what only tests need', async () => {
    const size = await imageSize(project.image);
    console.log(`image ${(size / 1e6).toFixed(0)} MB, of which base ${(baseSize / 1e6).toFixed(0)} MB; ${daemon.storageDriver}`);
    expect(size - baseSize).toBeLessThan(130e6);
    for (const service of PROCESSES) {
      const { id, restarts } = await project.state(service);
      expect(restarts).toBe(0);
      expect(await daemon.docker(['exec', id, 'id', '-u'])).toBe('1000');
      expect(await daemon.docker(['inspect', '--format', '{{.Config.Image}}', id])).toBe(project.image);
    }
    const { id } = await project.state('router');
    const installed = await daemon.docker(['exec', id, 'ls', '/app/node_modules/.pnpm']);
    expect(installed).toContain('fastify@');
    expect(installed).not.toMatch(/^(openai|fast-check|vitest)@/m);
  });

  it('keeps the planes apart: the router reaches neither NATS nor a writable file, workers reach NATS', async () => {
    // One program says all of it: which servers can be dialled, which folders can be written.
    const probe = `
      const dial = (host, port) => new Promise((done) => require('net').connect(port, host)
        .on('connect', () => done(true)).on('error', () => done(false)));
      const write = (path) => { try { require('fs').writeFileSync(path, 'x'); return true; } catch { return false; } };
      Promise.all([dial('nats', 4222), dial('redis', 6379)]).then(([nats, redis]) => {
        console.log(JSON.stringify({ nats, redis, app: write('/app/x'), tmp: write('/tmp/x') }));
        process.exit();
      });`;
    const seen = async (service: string): Promise<unknown> => {
      const { id } = await project.state(service);
      return JSON.parse(await daemon.docker(['exec', id, 'node', '-e', probe]));
    };
    for (const service of ['router', 'prefill-0', 'decode-0', 'expert-0']) {
      const moves = service.startsWith('prefill') || service.startsWith('decode');
      expect(await seen(service), service).toEqual({ nats: moves, redis: true, app: false, tmp: true });
    }
  });

  it('without passwords nothing starts, and the error says what to run', async () => {
    await expect(project.compose(['config'], 60_000, { CAUSEWAY_REDIS_PASSWORD: '' })).rejects.toThrow('./causeway compose');
  });

  it('asks by itself with the profile load', async () => {
    await project.compose(['--profile', 'load', 'up', '--detach', '--no-deps', 'load']);
    const asked = async (): Promise<boolean> => ((await query('vllm:request_success_total')).get('router') ?? 0) >= 8;
    await eventually(asked, { timeoutMs: 60_000, intervalMs: 1000, what: 'answers to the load' });
    await project.compose(['--profile', 'load', 'rm', '--stop', '--force', 'load']);
  });

  it('answers the openai client from outside, with KV sent over NATS', async () => {
    const { text, kv } = await ask();
    expect(text).toBe(ANSWER);
    expect(kv).toMatchObject(CROSSED);
    expect(kv.bytes_sent).toBeGreaterThan(0);
    expect(Object.keys(kv.expert_calls).toSorted()).toEqual([...SHARDS]);
  });

  it('answers gRPC from outside, with KV sent over NATS', async () => {
    using channels = createChannelPool();
    const client = channels.client(inferenceV1.InferenceDefinition, `127.0.0.1:${project.ports.grpc}`);
    const messages = [];
    for await (const message of client.generate({
      model: '',
      input: { $case: 'messages', value: { messages: [{ role: 'user', content: CONTENT }] } },
      sampling: { temperature: 0, topP: 1, topK: 0, seed: undefined },
      maxTokens: 0,
      stop: [],
      placement: 'disaggregated',
    })) {
      messages.push(message);
    }
    expect(messages.map((message) => message.text).join('')).toBe(ANSWER);
    const kv = messages.at(-1)?.usage?.kv;
    expect(kv).toMatchObject({ outcome: 'used', prefillWorker: CROSSED.prefill_worker, decodeWorker: CROSSED.decode_worker });
    expect(Number(kv?.bytesSent)).toBeGreaterThan(0);
  });

  it('has Prometheus scrape every process', async () => {
    const config = parse(readFileSync(resolve(import.meta.dirname, '../../deploy/prometheus/prometheus.yml'), 'utf8')) as {
      scrape_configs: { job_name: string }[];
    };
    const jobs = config.scrape_configs.map((job) => job.job_name);
    expect(jobs.toSorted()).toEqual(['decode', 'expert', 'prefill', 'router']);
    const allUp = async (): Promise<boolean> => {
      const up = await query('min by (job) (up)');
      return up.size === jobs.length && jobs.every((job) => up.get(job) === 1);
    };
    await eventually(allUp, { timeoutMs: 30_000, intervalMs: 1000, what: 'up is 1 for every process' });
    // The first scrapes after the answers above see them: the router counts two whose KV was used, prefill the bytes that it sent.
    const counted = async (): Promise<boolean> => {
      const used = await query('causeway_kv_outcome_total{outcome="used"}');
      const bytes = await query('sum by (job) (causeway_kv_transfer_bytes_total)');
      const calls = await query('sum by (job) (causeway_expert_shard_batch_pairs_sum)');
      // One worker reads what NATS counts from its monitoring port, in the plane of KV.
      const nats = await query('sum(causeway_nats_server_connections)');
      const tellers = await query('count(causeway_nats_server_connections)');
      return (
        (used.get('router') ?? 0) >= 2 &&
        (bytes.get('prefill') ?? 0) > 0 &&
        (calls.get('expert') ?? 0) > 0 &&
        (nats.get('') ?? 0) >= WORKERS.length &&
        tellers.get('') === 1
      );
    };
    await eventually(counted, { timeoutMs: 30_000, intervalMs: 1000, what: 'the answers are counted' });
  });

  it.each([
    ['decode-0', 'decode'],
    ['expert-0', 'expert'],
  ])(
    'starts a killed %s again; answers go on meanwhile',
    async (victim, job) => {
      const before = await project.state(victim);
      await project.crash(victim);
      await eventually(async () => (await project.state(victim)).restarts === 1, {
        timeoutMs: 30_000,
        intervalMs: 200,
        what: 'the container is started again',
      });
      // Others take its work over, or the request waits; nothing else has to be restarted.
      const { text, kv } = await eventually(ask, { timeoutMs: 90_000, intervalMs: 500, what: 'an answer' });
      expect(text).toBe(ANSWER);
      expect(kv).toMatchObject(CROSSED);
      const after = await project.healthy(victim);
      expect(after).toMatchObject({ id: before.id, restarts: 1 });
      expect(after.startedAt).not.toBe(before.startedAt);
      for (const service of PROCESSES.filter((name) => name !== victim))
        expect((await project.state(service)).restarts, service).toBe(service === 'decode-0' && job === 'expert' ? 1 : 0);
      await eventually(async () => (await query('min by (job) (up)')).get(job) === 1, {
        timeoutMs: 30_000,
        intervalMs: 1000,
        what: `${victim} is scraped again`,
      });
    },
    300_000,
  );

  it('drains on stop, and down leaves no container, network or volume', async () => {
    await project.compose(['stop']);
    for (const service of PROCESSES) expect(await project.state(service)).toMatchObject({ status: 'exited', exitCode: 0 });
    expect(await daemon.docker(['volume', 'ls', '--quiet'])).not.toBe('');
    await project.compose(['down', '--volumes']);
    expect(await daemon.docker(['ps', '--all', '--quiet'])).toBe('');
    expect(await daemon.docker(['volume', 'ls', '--quiet'])).toBe('');
    const networks = await daemon.docker(['network', 'ls', '--format', '{{.Name}}']);
    expect(networks.split('\n').toSorted()).toEqual(['host', 'none']);
  });

  it('leaves nothing of the daemon on the machine', async () => {
    expect(await daemon.remove()).toEqual([]);
  }, 300_000);
});
