/** What `./causeway up` can be told: another model, a topology, other ports and addresses. Real servers, real workers. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, networkInterfaces } from 'node:os';
import { join, resolve } from 'node:path';
import { inferenceV1 } from '@causeway/proto';
import { createChannelPool } from '@causeway/rpc';
import { freePort } from '@causeway/testkit';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { alive, CommandFolder, FIRST_LINE } from './command-folder.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const SMOLLM2 = resolve(ROOT, '../shared/models/smollm2-135m-instruct');
const MINIMAL = join(ROOT, 'topologies/minimal.yaml');
const READY = /^ready {2}HTTP/;

let at: CommandFolder;

beforeEach(() => {
  at = new CommandFolder();
});

afterEach(() => at[Symbol.asyncDispose]());

/** Models that a router lists over gRPC. */
async function listed(address: string): Promise<string[]> {
  using channels = createChannelPool();
  const client = channels.client(inferenceV1.InferenceDefinition, address);
  return (await client.listModels({})).models.map((model) => model.id);
}

/** One answer over HTTP: its text, its request id and what became of its KV. */
async function ask(http: string, content: string): Promise<{ text: string; id: string; prefillWorker: string }> {
  const response = await fetch(`${http}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      model: 'tiny-moe',
      messages: [{ role: 'user', content }],
      temperature: 0,
      causeway: { placement: 'disaggregated' },
    }),
  });
  const answer = (await response.json()) as {
    choices: { message: { content: string } }[];
    usage: { causeway: { prefill_worker: string } };
  };
  return {
    text: answer.choices[0]?.message.content ?? '',
    id: response.headers.get('x-causeway-request-id') ?? '',
    prefillWorker: answer.usage.causeway.prefill_worker,
  };
}

describe.skipIf(!existsSync(SMOLLM2))('SmolLM2 (GGUF Q4_1)', () => {
  test('up --model answers through two workers, on the ports that were asked for', async () => {
    const [http, grpc] = [await freePort(), await freePort()];
    const up = at.start(['up', '--model', SMOLLM2, '--http-port', String(http), '--grpc-port', String(grpc)]);
    await up.waitForLine(FIRST_LINE, 180_000);
    await up.waitForLine(READY, 10_000);
    const shown = up.lines.join('\n');
    expect(shown).toContain('smollm2-135m-instruct has no experts: it runs without expert shards');
    expect(shown).toMatch(/you {3}What is the capital of France\?\nmodel .*Paris/);
    expect(shown).toContain(`ready  HTTP http://127.0.0.1:${http}/v1  ·  gRPC 127.0.0.1:${grpc}`);
    expect(await listed(`127.0.0.1:${grpc}`)).toEqual(['smollm2-135m-instruct']);
    const { workers } = await at.status();
    expect(workers.map((worker) => [worker.id, worker.contextLength])).toEqual([
      ['decode', 4096],
      ['prefill', 4096],
    ]);
  }, 240_000);

  test('the example topology serves it too, with less context, and says so', async () => {
    const up = at.start(['up', '--topology', join(ROOT, 'deploy/topology.example.yaml'), '--model', SMOLLM2]);
    await up.waitForLine(FIRST_LINE, 180_000);
    expect(up.lines.join('\n')).toMatch(/model .*Paris/);
    const { workers } = await at.status();
    expect(workers.map((worker) => [worker.id, worker.contextLength])).toEqual([
      ['decode', 2912],
      ['prefill', 3872],
    ]);
    const logs = await at.run(['logs', 'decode', '-n', '100']);
    expect(logs.output).toMatch(/"maxSequences":2,"maxContext":2912,.*has room for 2 x 2912 tokens; 8 x 4096 would take/);
  }, 240_000);
});

test('up --topology runs two prefill workers and binds a pool to its cores; logs -f goes on', async () => {
  const core = cpus().length - 1;
  const file = join(at.path, 'cluster.yaml');
  writeFileSync(
    file,
    [
      'version: 1',
      'pools:',
      '  - {name: prefill, role: prefill, count: 2, threads: 1, kvBudget: 64MiB}',
      `  - {name: decode, role: decode, cores: "${core}", kvBudget: 64MiB}`,
      '',
    ].join('\n'),
  );
  const up = at.start(['up', '--topology', file]);
  await up.waitForLine(FIRST_LINE, 120_000);
  await up.waitForLine(READY, 10_000);
  const { http, services, workers } = await at.status();
  expect(services.map((service) => [service.name, service.ready])).toEqual(
    ['nats', 'redis', 'router', 'prefill-0', 'prefill-1', 'decode'].map((name) => [name, true]),
  );
  expect(workers.map((worker) => [worker.id, worker.role])).toEqual([
    ['decode', 'decode'],
    ['prefill-0', 'prefill'],
    ['prefill-1', 'prefill'],
  ]);
  const cores = (name: string): string | undefined => {
    const pid = services.find((service) => service.name === name)?.pid;
    return /^Cpus_allowed_list:\t(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  };
  expect(cores('decode')).toBe(String(core));
  expect(cores('prefill-0')).toBe(cores('router'));

  const follow = at.start(['logs', 'router', '-f', '-n', '1']);
  await follow.waitForLine(/"service":"router"/);
  const answers = await Promise.all(Array.from({ length: 6 }, () => ask(http, 'What color is snow?')));
  for (const { text } of answers) expect(text).toMatch(/white/i);
  expect(new Set(answers.map((answer) => answer.prefillWorker))).toEqual(new Set(['prefill-0', 'prefill-1']));
  for (const { id } of answers)
    await follow.waitForLine((line) => line.includes(`"requestId":"${id}"`) && /"answered"/.test(line));
  follow.signal('INT');
  expect(await follow.exited).toEqual({ code: 0, signal: null });

  up.signal('TERM');
  expect(await up.exited).toEqual({ code: 0, signal: null });
  expect(services.filter((service) => alive(service.pid))).toEqual([]);
}, 240_000);

const hasIpv6 = Object.values(networkInterfaces()).some((list) => list?.some((entry) => entry.address === '::1'));

test.skipIf(!hasIpv6)(
  'up --host ::1 serves on IPv6, where chat --url finds its model; down ends a suspended supervisor',
  async () => {
    const port = await freePort();
    const up = at.start(['up', '--no-prompt', '--host', '::1', '--http-port', String(port), '--topology', MINIMAL]);
    await up.waitForLine(READY, 120_000);
    const { http, grpc, services, supervisorPid } = await at.status();
    expect(http).toBe(`http://[::1]:${port}`);
    expect(grpc).toMatch(/^\[::1\]:\d+$/);
    expect(services.every((service) => service.ready)).toBe(true);
    expect(await listed(grpc)).toEqual(['tiny-moe']);
    const chat = await at.pipe(['What color is snow?'], ['chat', '--url', `${http}/v1`, '--temperature', '0']);
    expect(chat.output).toMatch(/white/i);
    expect(chat.code).toBe(0);

    process.kill(supervisorPid, 'SIGSTOP');
    const down = await at.run(['down']);
    expect(down.output).toMatch(/^stopped$/m);
    expect(down.code).toBe(0);
    expect(await up.exited).toEqual({ code: 0, signal: null });
    expect(services.filter((service) => alive(service.pid))).toEqual([]);
  },
  240_000,
);

test('an address that this machine does not have is refused', async () => {
  const refused = await at.run(['up', '--host', '203.0.113.7']);
  expect(refused.output).toMatch(/cannot listen on 203\.0\.113\.7:8000: .*EADDRNOTAVAIL/);
  expect(refused.code).toBe(2);
});
