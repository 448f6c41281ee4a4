/** What an endpoint needs of a connection. NatsLink is one; the model checker of page ownership has its own. */
import type { NatsLinkOptions } from './nats-link.ts';

export interface KvLink extends AsyncDisposable {
  readonly up: boolean;
  /** Largest message, bytes. */
  readonly maxPayload: number;
  /** Bytes published, protocol lines included. */
  readonly wireBytes: number;
  /** Hears a subject, wildcards allowed; resolves when the server has the subscription. */
  subscribe(subject: string, handle: (subject: string, data: Uint8Array) => void): Promise<void>;
  /** Publishes if the connection is up; protocol bytes, or 0 when it is down. The buffer must rest until it is acknowledged. */
  publish(subject: string, data: Uint8Array): number;
  /** Round trip to the server, ms. */
  rttMs(): Promise<number>;
  /** Resolves when the server has taken everything published so far, and all that it had for this connection has come in. */
  flush(): Promise<void>;
}

/** Opens a connection. */
export type ConnectLink = (options: NatsLinkOptions) => Promise<KvLink>;
