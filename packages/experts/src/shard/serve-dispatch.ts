/** One worker's stream of `Dispatch`, on the shard's side. */
import { fail, ServiceError } from '@causeway/errors';
import { AsyncQueue } from '@causeway/lifecycle';
import type { expertV1 } from '@causeway/proto';
import { encodeReply, type Hello, openAnswer, PROTOCOL_VERSION, readHello, readRequest } from '../wire/frame.ts';
import type { ExpertShard, FrameAnswer, FrameWaiter } from './expert-shard.ts';
import { readShardFrame } from './shard-frame.ts';

export interface DispatchDeps {
  shard: ExpertShard;
  id: string;
  incarnation: string;
  fingerprint: string;
  /** The placement in force, as JSON; empty when there is none. */
  placement: () => string;
  /** The worker uses this placement. Dispose when its stream ends. */
  uses: (epoch: number) => Disposable;
}

/** Answers in line for one worker: it has as many frames on their way at most. */
const MAX_OUTSTANDING = 4096;

/**
 * Serves a stream until either end closes it.
 * @throws ServiceError `newer_version`, `fingerprint_mismatch`, `malformed_frame`, `bad_request`: the stream ends with it.
 */
export async function* serveDispatch(
  deps: DispatchDeps,
  requests: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const replies = new AsyncQueue<Uint8Array>(MAX_OUTSTANDING);
  const reading = readAll(deps, requests, replies).then(
    () => replies.close(),
    (error: unknown) => replies.fail(ServiceError.from(error)),
  );
  const onAbort = (): void => replies.fail(ServiceError.from(signal.reason));
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    yield* replies;
  } finally {
    signal.removeEventListener('abort', onAbort);
    replies.close();
    void reading;
  }
}

async function readAll(deps: DispatchDeps, requests: AsyncIterable<Uint8Array>, replies: AsyncQueue<Uint8Array>): Promise<void> {
  const source = {};
  const waiting = new Map<number, FrameWaiter>();
  let hello: Hello | undefined;
  let inUse: Disposable | undefined;
  try {
    for await (const bytes of requests) {
      const message = readRequest(bytes);
      if (hello === undefined) {
        hello = readHello(message);
        if (hello.fingerprint !== deps.fingerprint) {
          const both = `worker ${hello.workerId.slice(0, 128)} has ${hello.fingerprint.slice(0, 16)}, shard ${deps.id} ${deps.fingerprint.slice(0, 16)}`;
          fail('failed_precondition', 'fingerprint_mismatch', `another model or precision: ${both}`);
        }
        inUse = deps.uses(hello.epoch);
        const value = { protocolVersion: PROTOCOL_VERSION, shardId: deps.id, incarnation: deps.incarnation };
        replies.tryPush(encodeReply({ $case: 'welcome', value }));
        continue;
      }
      const { request } = message;
      switch (request?.$case) {
        case 'rows':
          takeRows(deps, hello, request.value, message.body, { source, waiting, replies });
          break;
        case 'cancel': {
          const waiter = waiting.get(request.value.id);
          if (waiter !== undefined) waiter.cancelled = true;
          break;
        }
        case 'epoch': {
          const next = deps.uses(Number(request.value));
          inUse?.[Symbol.dispose]();
          inUse = next;
          break;
        }
        default:
          fail('invalid_argument', 'bad_request', `a message of kind ${request?.$case ?? 'unknown'} is not expected after hello`);
      }
    }
  } finally {
    inUse?.[Symbol.dispose]();
    deps.shard.forget(source);
  }
}

function takeRows(
  deps: DispatchDeps,
  hello: Hello,
  rows: expertV1.Rows,
  body: Uint8Array,
  stream: { source: object; waiting: Map<number, FrameWaiter>; replies: AsyncQueue<Uint8Array> },
): void {
  const { waiting, replies, source } = stream;
  const { id } = rows;
  if (waiting.has(id)) fail('invalid_argument', 'bad_request', `rows.id ${id} is under way already`, { field: 'rows.id' });
  if (waiting.size >= MAX_OUTSTANDING) fail('resource_exhausted', 'queue_full', `${waiting.size} frames are under way already`);
  const failed = (error: ServiceError): void => {
    waiting.delete(id);
    replies.tryPush(failure(id, error, deps));
  };
  const answered = ({ write, bytes, queueMs, computeMs, batchPairs }: FrameAnswer): void => {
    waiting.delete(id);
    if (replies.closed) return;
    const { message, body: place } = openAnswer({ id, queueMs, computeMs, batchPairs }, bytes);
    write(place);
    replies.tryPush(message);
  };
  try {
    const waiter: FrameWaiter = {
      source,
      frame: readShardFrame(rows, body, hello, deps.shard.shape),
      cancelled: false,
      answered,
      failed,
    };
    waiting.set(id, waiter);
    deps.shard.submit(waiter);
  } catch (error) {
    failed(ServiceError.from(error));
  }
}

function failure(id: number, error: ServiceError, deps: DispatchDeps): Uint8Array {
  const { code, reason, retry, message } = error;
  const placement = reason === 'stale_placement' ? deps.placement() : '';
  return encodeReply({ $case: 'failure', value: { id, code, reason, retry, message, placement } });
}
