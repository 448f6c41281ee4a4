import { fail, ServiceError } from '@causeway/errors';
import { deadlineSignal } from '@causeway/lifecycle';
import { type Channel, type Client, type CompatServiceDefinition, createChannel, createClientFactory } from 'nice-grpc';
import { type ClientMiddleware, Metadata } from 'nice-grpc-common';
import { abortableIterable } from './abortable-iterable.ts';
import { type ByteStream, type ByteStreamHandlers, openByteStream } from './byte-stream.ts';
import { fromClientError } from './error-status.ts';
import { type TransportOptions, transportOptions } from './limits.ts';
import { REQUEST_ID_KEY } from './metadata.ts';

/** Options of every call, beside nice-grpc's `signal` and `metadata`. */
export interface RpcCallOptions {
  /** Milliseconds this call may take; sent to the server as gRPC's deadline. Default: none. */
  deadlineMs?: number | undefined;
  /** Sent as `x-causeway-request-id`. */
  requestId?: string | undefined;
  /** More metadata, by lower-case name. */
  headers?: Readonly<Record<string, string>> | undefined;
}

/** A typed client; every failure is a ServiceError. */
export type RpcClient<S extends CompatServiceDefinition> = Client<S, RpcCallOptions>;

export interface ChannelPoolOptions extends TransportOptions {
  /** Longest a connection attempt may take, TCP and HTTP/2 handshake together; default 3000 ms. */
  connectTimeoutMs?: number;
}

/** One connection per peer, shared by all its clients. */
export interface ChannelPool extends Disposable {
  /** A client of a service at `host:port` (IPv6 in brackets). Connects at the first call; calls fail at once while the peer cannot be reached. */
  client<S extends CompatServiceDefinition>(definition: S, address: string): RpcClient<S>;
  /**
   * Opens a call whose messages are bytes; `path` is `/package.Service/Method`. Bidirectional, or of a method that takes one message: then
   * `end` follows it. The server is told the deadline; who calls keeps it.
   */
  byteStream(path: string, address: string, handlers: ByteStreamHandlers, options?: RpcCallOptions): ByteStream;
  /** Closes the connection to a peer that is gone. Running calls fail with `worker_lost`. */
  close(address: string): void;
  /** Closes every connection whose address is not in the set: call it with the addresses of the current snapshot. */
  keepOnly(addresses: ReadonlySet<string>): void;
  /** Addresses with an open channel. */
  readonly addresses: readonly string[];
}

interface Entry {
  channel: Channel;
  clients: Map<CompatServiceDefinition, unknown>;
  closing: AbortController;
}

const ADDRESS = /^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]{1,253}):([1-9]\d{0,4})$/;

/** Makes an empty pool. Disposing it closes every connection. */
export function createChannelPool(options: ChannelPoolOptions = {}): ChannelPool {
  const entries = new Map<string, Entry>();
  const close = (address: string): void => {
    const entry = entries.get(address);
    entries.delete(address);
    entry?.closing.abort(
      new ServiceError(`the connection to ${address} was given up`, {
        code: 'unavailable',
        reason: 'worker_lost',
        retry: 'other',
      }),
    );
    entry?.channel.close();
  };
  const open = (address: string): Entry => {
    const existing = entries.get(address);
    if (existing !== undefined) return existing;
    const match = ADDRESS.exec(address);
    if (match === null || Number(match[2]) > 65_535) {
      fail('invalid_argument', 'bad_request', `${JSON.stringify(address.slice(0, 100))} is not an address of the form host:port`);
    }
    const entry: Entry = {
      channel: createChannel(`http://${address}`, undefined, channelOptions(options)),
      clients: new Map(),
      closing: new AbortController(),
    };
    entries.set(address, entry);
    return entry;
  };
  return {
    client: <S extends CompatServiceDefinition>(definition: S, address: string): RpcClient<S> => {
      const entry = open(address);
      let client = entry.clients.get(definition) as RpcClient<S> | undefined;
      if (client === undefined) {
        client = createClientFactory()
          .use(clientMiddleware(address, entry.closing.signal))
          .create(definition, entry.channel) as RpcClient<S>;
        entry.clients.set(definition, client);
      }
      return client;
    },
    byteStream: (path, address, handlers, options = {}) => {
      const { channel, closing } = open(address);
      return openByteStream({ channel, address, path, headers: headersOf(options), closing: closing.signal }, handlers);
    },
    close,
    keepOnly: (addresses) => {
      for (const address of entries.keys()) if (!addresses.has(address)) close(address);
    },
    get addresses() {
      return [...entries.keys()];
    },
    [Symbol.dispose]: () => {
      for (const address of entries.keys()) close(address);
    },
  };
}

function channelOptions(options: ChannelPoolOptions): Record<string, unknown> {
  return {
    ...transportOptions(options),
    // nice-grpc reads this as the limit of one connection attempt; grpc-js itself has none.
    'grpc.min_reconnect_backoff_ms': options.connectTimeoutMs ?? 3000,
    'grpc.initial_reconnect_backoff_ms': 100,
    'grpc.max_reconnect_backoff_ms': 1000,
    'grpc.use_local_subchannel_pool': 1,
    // Requests that may not run twice are never repeated by the transport; who retries is decided by Causeway.
    'grpc.enable_retries': 0,
    'grpc.enable_http_proxy': 0,
    'grpc.service_config_disable_resolution': 1,
  };
}

/** Client side of every call: request id, deadline, errors. */
function clientMiddleware(address: string, closing: AbortSignal): ClientMiddleware<RpcCallOptions> {
  return async function* (call, { deadlineMs, requestId, headers, ...options }) {
    using scope = deadlineSignal(deadlineMs ?? Number.POSITIVE_INFINITY, options.signal, closing);
    const metadata = Metadata(options.metadata);
    for (const [name, value] of headersOf({ deadlineMs, requestId, headers })) metadata.set(name, value);
    let trailer: Metadata | undefined;
    const request = call.requestStream ? abortableIterable(call.request, scope.signal) : call.request;
    try {
      return yield* call.next(request, {
        ...options,
        metadata,
        signal: scope.signal,
        onTrailer: (received) => {
          trailer = received;
          options.onTrailer?.(received);
        },
      });
    } catch (thrown) {
      if (scope.signal.aborted) throw abortedBy(scope.signal.reason);
      throw fromClientError(thrown, trailer, address);
    } finally {
      // Releases the request stream's reader when the call ends before the stream does.
      scope.abort();
    }
  };
}

/** What every call tells the server about itself. */
function* headersOf({ deadlineMs, requestId, headers = {} }: RpcCallOptions): Generator<readonly [string, string]> {
  yield* Object.entries(headers);
  if (requestId !== undefined) yield [REQUEST_ID_KEY, requestId];
  if (deadlineMs !== undefined && Number.isFinite(deadlineMs)) yield ['grpc-timeout', grpcTimeout(deadlineMs)];
}

function abortedBy(reason: unknown): ServiceError {
  const error = ServiceError.from(reason);
  return error.reason === 'internal' && error !== reason
    ? new ServiceError('the call was cancelled', { code: 'cancelled', reason: 'cancelled', cause: reason })
    : error;
}

/** grpc-js waits for a deadline with one timer, and a longer one fires at once. */
const MAX_TIMEOUT_MS = 2_147_483_647;

/**
 * Value of the grpc-timeout header: at most 8 digits and a unit (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
 * A deadline of more than 24 days is told as 24 days; the caller's own timer keeps the whole of it.
 */
function grpcTimeout(ms: number): string {
  const whole = Math.min(MAX_TIMEOUT_MS, Math.max(1, Math.ceil(ms)));
  return whole < 1e8 ? `${whole}m` : `${Math.min(Math.ceil(whole / 1000), Math.floor(MAX_TIMEOUT_MS / 1000))}S`;
}
