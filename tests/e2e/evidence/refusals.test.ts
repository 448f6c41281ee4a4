/** Workers of another model or another storage are refused by name, and frames of others change nothing. */
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ServiceError } from '@causeway/errors';
import type { Fingerprint, KvDescriptor } from '@causeway/kv';
import { descriptorToProto } from '@causeway/kv-transport';
import { AsyncQueue } from '@causeway/lifecycle';
import { type kvV1, workerV1 } from '@causeway/proto';
import { workerKey } from '@causeway/registry';
import { type AttemptResult, type ClusterWorker, completeGeneration, eventually, scrape } from '@causeway/testkit';
import { Redis } from 'ioredis';
import { connect } from 'nats';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ForgedFrame, forgeFrame } from './forged-frames.ts';
import { type FrameTap, type TappedFrame, tapFrames } from './frame-tap.ts';
import {
  chosen,
  firstDifference,
  heldAt,
  idle,
  MODEL,
  needsSmollm2,
  release,
  SMOLLM2,
  startTestCluster,
  type TestCluster,
  TINY_MOE,
  withoutSmollm2,
} from './harness.ts';

const PROMPT = Array.from({ length: 1000 }, (_, i) => 3 + ((i * 37) % 2000));
const GENERATION = { promptIds: PROMPT, maxTokens: 8, ignoreEos: true, returnLogits: true };
/** One token of tiny-moe in f32. */
const TOKEN_BYTES = (48 + 16) * 5 * 4;

let folder: string;
let cluster: TestCluster;
let undisturbed: AttemptResult;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'causeway-refusals-'));
  cluster = await startTestCluster({ model: TINY_MOE, nats: { maxPayload: 65_536 }, workerEnv: { CAUSEWAY_KV_CODEC: 'none' } });
  undisturbed = await cluster.attempt(GENERATION);
});
afterAll(async () => {
  await cluster?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

/** The error that an attempt ends with. */
async function failure(attempt: Promise<unknown>): Promise<ServiceError> {
  const error = await attempt.then(
    () => new Error('the attempt succeeded'),
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(ServiceError);
  return error as ServiceError;
}

/** Everything is free again and the next request is answered as if nothing had been. */
async function nothingIsLeft(...workers: ClusterWorker[]): Promise<void> {
  for (const worker of [...workers, cluster.worker('decode-1')]) await idle(worker);
  expect(firstDifference(chosen(await cluster.attempt(GENERATION)), chosen(undisturbed))).toBeUndefined();
}

/** A copy of tiny-moe with one JSON file changed. */
async function variant(name: string, file: string, change: (json: never) => void): Promise<string> {
  const path = join(folder, name);
  await cp(TINY_MOE, path, { recursive: true });
  const json = JSON.parse(await readFile(join(path, file), 'utf8')) as never;
  change(json);
  await writeFile(join(path, file), JSON.stringify(json));
  return path;
}

const STRANGERS: { id: string; fields: string[]; skip?: boolean; note?: string; env: () => Promise<Record<string, string>> }[] = [
  { id: 'other-precision', fields: ['weights'], env: () => Promise.resolve({ CAUSEWAY_PRECISION: 'exact' }) },
  {
    id: 'other-rope',
    fields: ['rope'],
    env: async () => ({
      CAUSEWAY_MODEL_PATH: await variant('other-rope', 'config.json', (config: { rope_parameters: { rope_theta: number } }) => {
        config.rope_parameters.rope_theta = 20_000;
      }),
    }),
  },
  {
    id: 'other-tokenizer',
    fields: ['tokenizer'],
    env: async () => ({
      CAUSEWAY_MODEL_PATH: await variant('other-tokenizer', 'tokenizer.json', (json: { model: { merges: unknown[] } }) => {
        json.model.merges.pop();
      }),
    }),
  },
  {
    id: 'other-model',
    fields: ['architecture', 'weights', 'tokenizer', 'rope', 'geometry'],
    skip: withoutSmollm2,
    note: ` ${needsSmollm2}`,
    env: () => Promise.resolve({ CAUSEWAY_MODEL_PATH: SMOLLM2 }),
  },
];

describe('a worker of another model', () => {
  it.for(STRANGERS.map((stranger) => ({ ...stranger, note: stranger.note ?? '' })))(
    '$id is refused, by the sender and by the receiver$note',
    async ({ id, fields, skip, env }, { skip: skipTest }) => {
      if (skip === true) skipTest();
      const stranger = await cluster.startWorker('prefill', id, await env());
      const refused = await failure(cluster.attempt(GENERATION, { prefill: id }));
      expect(refused).toMatchObject({ code: 'failed_precondition', reason: 'fingerprint_mismatch' });
      expect(fieldsOf(refused)).toEqual(fields);

      // A sender that takes the ticket for its own is refused by the receiver.
      const { fingerprint, descriptor } = await registration(id);
      const second = await failure(
        attemptWithTicket(stranger, (ticket) => ({
          ...ticket,
          fingerprint: { ...fingerprint },
          descriptor: descriptorToProto(descriptor),
          objects: ticket.objects.map((object) => ({
            kind: { $case: 'tokens', value: { ...tokensOf(object), layerCount: descriptor.layers.length } },
          })),
        })),
      );
      expect(second).toMatchObject({ code: 'failed_precondition', reason: 'fingerprint_mismatch' });
      expect(second.message).toContain('worker decode-1 refused the KV transfer');
      expect(fieldsOf(second)).toEqual(fields);
      expect((await scrape(cluster.worker('decode-1')))('causeway_prefill_tokens_total')).toBe(0);
      await nothingIsLeft(stranger);
      await stranger.process.stop();
    },
  );
});

describe('a worker that stores KV otherwise', () => {
  it('is refused where numbers would be rounded and nobody allowed it', async () => {
    const stranger = await cluster.startWorker('decode', 'other-dtype', { CAUSEWAY_KV_DTYPE: 'bf16' });
    const refused = await failure(cluster.attempt(GENERATION, { decode: 'other-dtype' }));
    expect(refused).toMatchObject({ code: 'failed_precondition', reason: 'descriptor_mismatch' });
    expect(refused.message).toContain('f32 NHD 16 to bf16 NHD 16 rounds numbers');
    await nothingIsLeft(stranger);
    await stranger.process.stop();
  });

  it('in other blocks gives the same answer: its KV is converted on the way', async () => {
    const stranger = await cluster.startWorker('prefill', 'other-blocks', { CAUSEWAY_BLOCK_TOKENS: '64' });
    const converted = await cluster.attempt(GENERATION, { prefill: 'other-blocks' });
    expect(firstDifference(chosen(converted), chosen(undisturbed))).toBeUndefined();
    await nothingIsLeft(stranger);
    await stranger.process.stop();
  });
});

describe('frames of somebody else on the subject of a transfer', () => {
  let tap: FrameTap;
  beforeAll(async () => {
    tap = await tapFrames(cluster.nats.url);
  });
  afterAll(() => tap?.[Symbol.asyncDispose]());

  /** Runs an attempt, and publishes frames when three of its own have left. */
  async function disturbed(id: string, forge: (seen: TappedFrame, rest: number) => ForgedOn[]): Promise<AttemptResult> {
    const go = join(folder, id);
    await mkdir(go);
    const sender = await cluster.startWorker('prefill', id, {
      CAUSEWAY_FAILPOINTS: 'after_frame_k:3=pause',
      CAUSEWAY_FAILPOINT_DIR: go,
    });
    const before = tap.frames.length;
    let ticket: kvV1.Ticket | undefined;
    const running = cluster.attempt(GENERATION, {
      prefill: id,
      onEvent: ({ event }) => {
        if (event?.$case === 'ticket') ticket = event.value;
      },
    });
    running.catch(() => undefined);
    await heldAt(go, 'after_frame_k', sender);
    const seen = await eventually(() => (tap.frames.length >= before + 3 ? tap.frames.slice(before) : undefined), {
      what: 'three frames at the server',
    });
    expect(seen.map((frame) => `${frame.object}/${frame.part}`)).toEqual(['0/0', '0/1', '0/2']);
    const rest = tokensOf(ticket!.objects[0]).tokenCount * TOKEN_BYTES - 3 * seen[0]!.rawBytes;
    const stranger = await connect({ servers: cluster.nats.url });
    for (const { subject = seen[0]!.subject, data } of forge(seen[0]!, rest)) stranger.publish(subject, data);
    await stranger.flush();
    await stranger.close();
    await release(go, 'after_frame_k');
    try {
      return await running;
    } finally {
      await idle(sender);
      await sender.process.stop();
    }
  }

  it('change nothing when they are foreign, stale, damaged or repeated', async () => {
    const decode = cluster.worker('decode-1');
    const before = await scrape(decode);
    const result = await disturbed('disturbed', (seen, rest) => {
      const missing: ForgedFrame = { ...seen, part: 3, body: new Uint8Array(rest).fill(7) };
      delete (missing as Partial<TappedFrame>).codec;
      delete (missing as Partial<TappedFrame>).rawBytes;
      const others = 'ab'.repeat(16);
      return [
        { data: crypto.getRandomValues(new Uint8Array(1000)) },
        { data: forgeFrame(missing).subarray(0, 10) },
        { data: new Uint8Array(0) },
        { data: forgeFrame({ ...missing, magic: 'KVCW' }) },
        { data: forgeFrame({ ...missing, headerCrcOff: 1 }) },
        { data: forgeFrame({ ...missing, bodyCrcOff: 1 }) },
        { data: forgeFrame({ ...missing, rawCrcOff: 1 }) },
        { data: forgeFrame({ ...missing, transfer: others }) },
        { data: forgeFrame({ ...missing, epoch: missing.epoch + 1 }) },
        { data: forgeFrame({ ...missing, epoch: missing.epoch - 1 }) },
        { data: forgeFrame({ ...missing, object: 999 }) },
        { data: forgeFrame({ ...missing, part: 4 }) },
        { data: forgeFrame({ ...missing, body: missing.body.subarray(64) }) },
        { data: forgeFrame({ ...missing, codec: 2, rawBytes: rest, body: missing.body.subarray(0, 500) }) },
        { data: forgeFrame({ ...missing, codec: 3, rawBytes: rest, body: missing.body.subarray(0, 500) }) },
        { data: forgeFrame({ ...missing, codec: 9 }) },
        // What is in place is never written again.
        { data: forgeFrame({ ...missing, part: 0, body: new Uint8Array(seen.rawBytes).fill(7) }) },
        { subject: seen.subject.replace(seen.transfer, others), data: forgeFrame({ ...missing, transfer: others }) },
      ];
    });
    expect(firstDifference(chosen(result), chosen(undisturbed))).toBeUndefined();
    expect(result.kv).toMatchObject({ prefilledTokens: 0, rawBytes: BigInt(PROMPT.length * TOKEN_BYTES) });
    const after = await scrape(decode);
    const rose = (name: string): number => after(name) - before(name);
    expect(rose('causeway_kv_stale_frames_total')).toBe(3);
    expect(rose('causeway_kv_checksum_failures_total')).toBeGreaterThanOrEqual(3);
    await nothingIsLeft();
  });

  it.each([
    {
      name: 'a part that is right in everything but its bytes',
      reason: 'checksum',
      forge: (frame: ForgedFrame) => [{ data: forgeFrame(frame) }],
    },
    {
      name: 'a newer version',
      reason: 'newer_version',
      forge: (frame: ForgedFrame) => [{ data: forgeFrame({ ...frame, version: 2 }) }],
    },
  ])('never decode to a wrong answer: $name ends the transfer with $reason', async ({ reason, forge }) => {
    const error = await failure(
      disturbed(`insider-${reason.replace('_', '-')}`, ({ transfer, epoch }, rest) =>
        forge({ transfer, epoch, object: 0, part: 3, body: new Uint8Array(rest).fill(7) }),
      ),
    );
    expect(error.reason).toBe(reason);
    await nothingIsLeft();
  });
});

interface ForgedOn {
  subject?: string;
  data: Uint8Array;
}

/** Names of the fields in a `fingerprint_mismatch`. */
function fieldsOf(error: ServiceError): string[] {
  return [...error.message.matchAll(/(\w+) \([0-9a-f]{12} here, [0-9a-f]{12} there\)/g)].map((match) => match[1]!);
}

/** What a worker says of itself in Redis. */
async function registration(id: string): Promise<{ fingerprint: Fingerprint; descriptor: KvDescriptor }> {
  const redis = new Redis(cluster.redis.url);
  try {
    const value = (await redis.get(workerKey(id)))!;
    return JSON.parse(value.slice(0, value.indexOf('\n'))) as { fingerprint: Fingerprint; descriptor: KvDescriptor };
  } finally {
    redis.disconnect();
  }
}

/** An attempt whose ticket is altered on its way to the prefill worker. Fails as the prefill call does. */
async function attemptWithTicket(prefill: ClusterWorker, alter: (ticket: kvV1.Ticket) => kvV1.Ticket): Promise<void> {
  const base = { requestId: 'altered-ticket', attempt: 1, model: MODEL, generation: completeGeneration(GENERATION) };
  const commands = new AsyncQueue<workerV1.DecodeCommand>(4);
  commands.tryPush({ command: { $case: 'reserve', value: { ...base, local: false, computeOrder: undefined } } });
  const ended = new AbortController();
  try {
    const decoder = cluster.channels.client(workerV1.DecodeDefinition, cluster.worker('decode-1').address);
    for await (const { event } of decoder.decode(commands, { signal: ended.signal })) {
      if (event?.$case !== 'ticket') continue;
      const client = cluster.channels.client(workerV1.PrefillDefinition, prefill.address);
      for await (const _event of client.prefill({ ...base, ticket: alter(event.value) })) continue;
    }
  } finally {
    ended.abort();
    commands.close();
  }
}

/** The models here keep tokens and nothing else. */
function tokensOf(object: kvV1.KvObject | undefined): kvV1.TokensObject {
  return object?.kind?.$case === 'tokens' ? object.kind.value : expect.fail('an object that holds no tokens');
}
