/**
 * A long-lived bidirectional call whose messages are bytes, on grpc-js itself: no copy, and no iterator between a message and its reader,
 * where a few microseconds a message count.
 */
import { type Channel, Client, credentials, Metadata as GrpcMetadata, type ServiceError as GrpcError } from '@grpc/grpc-js';
import { ClientError, Metadata } from 'nice-grpc-common';
import { fromClientError } from './error-status.ts';

export interface ByteStreamHandlers {
  /** An encoded message: a view that is the receiver's own. */
  onMessage(message: Uint8Array): void;
  /** Called once, when nothing comes any more: without an error when the server ended the stream. @throws nothing */
  onEnd(error: Error | undefined): void;
}

export interface ByteStream {
  /** Sends an encoded message, which must not change afterwards. Messages of an ended stream are dropped. */
  write(message: Uint8Array): void;
  /** Nothing more is sent; what the server has still to say comes. */
  end(): void;
  /** Messages wait at the peer until `resume`, but for those that are here. */
  pause(): void;
  resume(): void;
  /** Ends the call at once; neither `onMessage` nor `onEnd` is called any more. */
  cancel(): void;
}

export interface ByteStreamCall {
  /** An open channel to the address. */
  channel: Channel;
  address: string;
  /** `/package.Service/Method`. */
  path: string;
  /** Request metadata, by lower-case name. */
  headers: Iterable<readonly [name: string, value: string]>;
  /** Aborts when the channel is given up: the stream ends with its reason. */
  closing: AbortSignal;
}

/** Begins the call. Errors are ServiceErrors, as those of other calls. */
export function openByteStream(o: ByteStreamCall, handlers: ByteStreamHandlers): ByteStream {
  const { channel, address, path, headers, closing } = o;
  const client = new Client(address, credentials.createInsecure(), { channelOverride: channel });
  const metadata = new GrpcMetadata();
  for (const [name, value] of headers) metadata.set(name, value);
  const call = client.makeBidiStreamRequest(path, asBuffer, (bytes) => bytes, metadata);
  let ended = false;
  let writable = true;
  const stop = (): boolean => {
    if (ended) return false;
    ended = true;
    closing.removeEventListener('abort', onClosing);
    return true;
  };
  const end = (error: Error | undefined): void => {
    if (stop()) handlers.onEnd(error);
  };
  const onClosing = (): void => {
    end(closing.reason as Error);
    call.cancel();
  };
  closing.addEventListener('abort', onClosing, { once: true });
  call.on('data', (message: Buffer) => {
    if (!ended) handlers.onMessage(message);
  });
  call.on('end', () => end(undefined));
  call.on('error', (error: GrpcError) => {
    const thrown = new ClientError(path, error.code, error.details);
    end(fromClientError(thrown, trailerOf(error.metadata), address));
  });
  return {
    write: (message) => {
      if (!ended && writable) call.write(message);
    },
    end: () => {
      if (!ended && writable) call.end();
      writable = false;
    },
    pause: () => void call.pause(),
    resume: () => void call.resume(),
    cancel: () => {
      if (stop()) call.cancel();
    },
  };
}

const asBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

function trailerOf(metadata: GrpcMetadata | undefined): Metadata {
  const trailer = Metadata();
  for (const [key, value] of Object.entries(metadata?.getMap() ?? {})) if (typeof value === 'string') trailer.set(key, value);
  return trailer;
}
