/** What a shard does with frames that no worker of ours would send. Over real gRPC. */
import { AsyncQueue } from '@causeway/lifecycle';
import { ExpertsBytesDefinition } from '@causeway/experts';
import { expertV1 } from '@causeway/proto';
import { createChannelPool } from '@causeway/rpc';
import { eventually, type RedisServer, startRedis } from '@causeway/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ExpertCluster, logitsOf, modelFolder, startExperts } from './testing/expert-cluster.ts';

const HIDDEN = 192;
const IDS = [5, 6, 7, 8];

let redis: RedisServer;
let cluster: ExpertCluster;
/** Runs wait for it. */
let held: Promise<void> = Promise.resolve();
beforeAll(async () => {
  redis = await startRedis();
  const even = Array.from({ length: 8 }, (_, i) => 2 * i);
  const odd = even.map((expert) => expert + 1);
  cluster = await startExperts({
    redis,
    folder: modelFolder('tiny-moe'),
    split: [even, odd],
    node: () => ({ hooks: { beforeRun: () => held } }),
  });
});
afterAll(async () => {
  await cluster?.[Symbol.asyncDispose]();
  await redis?.[Symbol.asyncDispose]();
});

type Request = expertV1.DispatchRequest['request'];

interface Conversation extends Disposable {
  send(request: Request, body?: Uint8Array): void;
  raw(bytes: Uint8Array): void;
  next(): Promise<expertV1.DispatchReply>;
}

/** A stream to the first shard, which has the even experts. */
function open(): Conversation {
  const channels = createChannelPool();
  const requests = new AsyncQueue<Uint8Array>(64);
  const client = channels.client(ExpertsBytesDefinition, cluster.nodes[0]?.record.address ?? '');
  const replies = client.dispatch(requests)[Symbol.asyncIterator]();
  return {
    send: (request, body = new Uint8Array(0)) =>
      void requests.tryPush(expertV1.DispatchRequest.encode({ request, body }).finish()),
    raw: (bytes) => void requests.tryPush(bytes),
    next: async () => {
      const result = await replies.next();
      if (result.done === true) throw new Error('the stream ended');
      return expertV1.DispatchReply.decode(result.value as Uint8Array);
    },
    [Symbol.dispose]: () => {
      requests.close();
      channels[Symbol.dispose]();
    },
  };
}

const hello = (more: Partial<expertV1.Hello> = {}): Request => ({
  $case: 'hello',
  value: {
    protocolVersion: 1,
    fingerprint: cluster.nodes[0]?.fingerprint ?? '',
    workerId: 'stranger',
    answers: expertV1.AnswerMode.ANSWER_MODE_PAIRS,
    rowType: expertV1.RowType.ROW_TYPE_F32,
    epoch: 1n,
    ...more,
  },
});

const rows = (more: Partial<expertV1.Rows> = {}): Request => ({
  $case: 'rows',
  value: { id: 1, layer: 1, epoch: 1n, rows: 1, pairs: 1, ...more },
});

/** Rows of a number, and pairs of row, expert and weight 1. */
function body(count: number, pairs: readonly (readonly [row: number, expert: number])[], value = 0.5, weight = 1): Uint8Array {
  const bytes = new Uint8Array(count * HIDDEN * 4 + pairs.length * 12);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < count * HIDDEN; i++) view.setFloat32(i * 4, value, true);
  const lists = count * HIDDEN * 4;
  for (const [i, [row, expert]] of pairs.entries()) {
    view.setUint32(lists + i * 4, row, true);
    view.setUint32(lists + (pairs.length + i) * 4, expert, true);
    view.setFloat32(lists + (2 * pairs.length + i) * 4, weight, true);
  }
  return bytes;
}

describe('a shard', () => {
  it.each([
    [
      'an unknown layer',
      rows({ layer: 0 }),
      body(1, [[0, 2]]),
      'bad_request',
      /rows.layer: is 0; layers with experts are 1 to 4/,
    ],
    ['an expert that the model has not', rows(), body(1, [[0, 16]]), 'bad_request', /pair 0 is of expert 16; there are 16/],
    ['an expert that is elsewhere', rows(), body(1, [[0, 3]]), 'stale_placement', /not all of its experts of layer 1 are here/],
    ['a row that is not there', rows(), body(1, [[1, 2]]), 'bad_request', /pair 0 is of row 1; there are 1/],
    ['rows of another width', rows(), body(1, [[0, 2]]).slice(4), 'malformed_frame', /body has 776 bytes; .* take 780/],
    [
      'fewer weights than pairs',
      rows({ pairs: 2, rows: 1 }),
      body(1, [[0, 2]]),
      'malformed_frame',
      /body has 780 bytes; .* take 792/,
    ],
    ['no rows', rows({ rows: 0 }), body(0, [[0, 2]]), 'bad_request', /rows.rows: is 0/],
    ['no pairs', rows({ pairs: 0 }), body(1, []), 'bad_request', /rows.pairs: is 0; 1 rows have 1 to 4/],
    [
      'four billion rows',
      rows({ rows: 0xffff_ffff, pairs: 0xffff_ffff }),
      body(1, [[0, 2]]),
      'malformed_frame',
      /body has 780 bytes/,
    ],
    [
      'pairs out of order',
      rows({ pairs: 2 }),
      body(1, [
        [0, 4],
        [0, 2],
      ]),
      'bad_request',
      /pair 1 does not ascend/,
    ],
    [
      'a pair twice',
      rows({ pairs: 2 }),
      body(1, [
        [0, 2],
        [0, 2],
      ]),
      'bad_request',
      /pair 1 does not ascend/,
    ],
    [
      'more experts for a row than a token has',
      rows({ pairs: 5, rows: 2 }),
      body(2, [
        [0, 0],
        [0, 2],
        [0, 4],
        [0, 6],
        [0, 8],
      ]),
      'bad_request',
      /row 0 has more than 4 experts/,
    ],
  ] as const)('refuses a frame with %s, and serves the next', async (_, request, bytes, reason, message) => {
    using stream = open();
    stream.send(hello());
    expect((await stream.next()).reply?.$case).toBe('welcome');
    stream.send(request, bytes);
    const { reply } = await stream.next();
    expect(reply).toMatchObject({ $case: 'failure', value: { id: 1, reason, message: expect.stringMatching(message) } });
    if (reason === 'stale_placement' && reply?.$case === 'failure') {
      expect(JSON.parse(reply.value.placement)).toMatchObject({ epoch: 1 });
    }
    stream.send(rows({ id: 2 }), body(1, [[0, 2]]));
    expect((await stream.next()).reply).toMatchObject({ $case: 'answer', value: { id: 2 } });
  });

  it('passes what is not finite through its own row alone', async () => {
    using stream = open();
    stream.send(hello());
    await stream.next();
    const both = body(2, [
      [0, 2],
      [1, 2],
    ]);
    new DataView(both.buffer).setFloat32(0, Number.NaN, true);
    stream.send(rows({ rows: 2, pairs: 2 }), both);
    const { body: answer } = await stream.next();
    const values = new Float32Array(new Uint8Array(answer).buffer);
    expect(values.subarray(0, HIDDEN).some(Number.isNaN)).toBe(true);
    expect(values.subarray(HIDDEN).some(Number.isNaN)).toBe(false);
  });

  it.each([
    [
      'an older protocol',
      () => hello({ protocolVersion: 0 }),
      'failed_precondition',
      /speaks version 0 of Dispatch, this shard 1/,
    ],
    ['another model', () => hello({ fingerprint: 'f'.repeat(64) }), 'failed_precondition', /another model or precision/],
    ['an unknown row type', () => hello({ rowType: 9 as never }), 'invalid_argument', /row_type 9 is not known/],
    ['rows before hello', () => rows(), 'invalid_argument', /the first message must be hello/],
  ] as const)('ends a stream that begins with %s', async (_, first, code, message) => {
    using stream = open();
    stream.send(first());
    await expect(stream.next()).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
  });

  it('ends a stream of rubbish, and of frames with one id', async () => {
    {
      using stream = open();
      stream.raw(new Uint8Array([0xff, 0xff, 0xff, 0xff, 0x07]));
      await expect(stream.next()).rejects.toMatchObject({ code: 'invalid_argument' });
    }
    using stream = open();
    stream.send(hello());
    await stream.next();
    const { promise, resolve } = Promise.withResolvers<void>();
    held = promise;
    stream.send(rows({ id: 7 }), body(1, [[0, 2]]));
    stream.send(rows({ id: 7 }), body(1, [[0, 2]]));
    await expect(stream.next()).rejects.toMatchObject({ message: expect.stringMatching(/rows.id 7 is under way already/) });
    resolve();
  });

  it('ends a stream of a message that is longer than a frame may be', async () => {
    using stream = open();
    stream.send(hello());
    await stream.next();
    stream.send(rows({ rows: 20_000, pairs: 1 }), body(20_000, [[0, 2]]));
    await expect(stream.next()).rejects.toMatchObject({ code: 'resource_exhausted', reason: 'payload_too_large' });
  });

  it('goes on serving its workers after all that, and keeps nothing of streams that are gone', async () => {
    expect((await logitsOf(cluster.loaded, IDS)).every(Number.isFinite)).toBe(true);
    await eventually(() => cluster.nodes[0]?.shard.stats.queued === 0, { what: 'an empty line' });
  });
});
