/**
 * One NATS connection that knows whether it is up. Nothing is published while it is down: `nats` would drop it silently.
 * nats 2.29 doesn't copy at publish(); a buffer must rest until the receiver has acknowledged it.
 */
import { readFile } from 'node:fs/promises';
import { fail, ServiceError } from '@causeway/errors';
import { awaitDependency } from '@causeway/lifecycle';
import {
  connect,
  type ConnectionOptions,
  credsAuthenticator,
  ErrorCode,
  Events,
  type NatsConnection,
  type NatsError,
} from 'nats';
import type { KvLink } from './kv-link.ts';

/** How a client shows who it is, and whom it trusts. */
export interface NatsAccess {
  user?: string | undefined;
  password?: string | undefined;
  /** Path of a `.creds` file (JWT and NKey seed). */
  credsFile?: string | undefined;
  /** Path of a PEM file with the certificate authority of the server; the connection is then encrypted. */
  caFile?: string | undefined;
}

export interface NatsLinkOptions {
  servers: string;
  access?: NatsAccess | undefined;
  /** Shown in the server's connection list. */
  name: string;
  connectDeadlineMs: number;
  signal?: AbortSignal | undefined;
  /** Told when the connection goes down, comes back, or (with the error) something else happens to it. */
  onStatus(status: 'down' | 'up' | 'error', detail: string): void;
  onWaiting(message: string): void;
}

/** Protocol bytes of a PUB of `payloadBytes` bytes to `subject`: "PUB <subject> <bytes>\r\n<payload>\r\n". */
export function publishedBytes(subject: string, payloadBytes: number): number {
  return 8 + subject.length + String(payloadBytes).length + payloadBytes + 1;
}

export class NatsLink implements KvLink {
  readonly #connection: NatsConnection;
  readonly #options: NatsLinkOptions;
  #up = true;
  #closing = false;
  /** Bytes published, protocol lines included. */
  wireBytes = 0;

  private constructor(connection: NatsConnection, options: NatsLinkOptions) {
    this.#connection = connection;
    this.#options = options;
    void this.#watch();
  }

  /**
   * Connects, waiting for the server.
   * @throws ServiceError `dependency_unavailable` at the deadline, `bad_config` when the server refuses the credentials or a file can't be read
   */
  static async connect(options: NatsLinkOptions): Promise<NatsLink> {
    const servers = options.servers.split(',').map((server) => server.trim());
    const access = await accessOptions(options.access ?? {});
    const connection = await awaitDependency({
      what: `NATS at ${options.servers} (${options.name})`,
      deadlineMs: options.connectDeadlineMs,
      ...(options.signal === undefined ? {} : { signal: options.signal }),
      onRetry: (message) => options.onWaiting(message),
      attempt: () =>
        connect({
          ...access,
          servers,
          name: options.name,
          maxReconnectAttempts: -1,
          reconnectTimeWait: 100,
          reconnectJitter: 100,
          waitOnFirstConnect: false,
          timeout: 2_000,
          noEcho: false,
          pingInterval: 5_000,
          maxPingOut: 3,
        }).catch(refused),
    });
    return new NatsLink(connection, options);
  }

  get up(): boolean {
    return this.#up && !this.#closing;
  }

  /** The server's limit of one message, bytes. */
  get maxPayload(): number {
    return this.#connection.info?.max_payload ?? 1 << 20;
  }

  /** Subscribes and waits until the server has it; survives reconnects. */
  async subscribe(subject: string, handle: (subject: string, data: Uint8Array) => void): Promise<void> {
    this.#connection.subscribe(subject, {
      callback: (error: NatsError | null, message) => {
        if (error !== null) return this.#options.onStatus('error', `subscription ${subject}: ${error.message}`);
        handle(message.subject, message.data);
      },
    });
    await this.#connection.flush();
  }

  /**
   * Publishes if the connection is up.
   * @returns protocol bytes, 0 when the connection is down
   * @throws ServiceError `payload_too_large`
   */
  publish(subject: string, data: Uint8Array): number {
    if (!this.up) return 0;
    if (data.length > this.maxPayload) {
      fail(
        'resource_exhausted',
        'payload_too_large',
        `a message of ${data.length} bytes exceeds the NATS server's max_payload of ${this.maxPayload}: raise max_payload`,
      );
    }
    this.#connection.publish(subject, data);
    const bytes = publishedBytes(subject, data.length);
    this.wireBytes += bytes;
    return bytes;
  }

  /** Round trip to the server, ms; waits for it. */
  async rttMs(): Promise<number> {
    const start = performance.now();
    await this.#connection.flush();
    return performance.now() - start;
  }

  /** Resolves when the server has taken everything published so far. */
  flush(): Promise<void> {
    return this.#connection.flush();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closing) return;
    this.#closing = true;
    await this.#connection.close();
  }

  async #watch(): Promise<void> {
    for await (const status of this.#connection.status()) {
      const detail = typeof status.data === 'string' ? status.data : JSON.stringify(status.data);
      if (status.type === Events.Disconnect) {
        this.#up = false;
        this.#options.onStatus('down', detail);
      } else if (status.type === Events.Reconnect) {
        this.#up = true;
        this.#options.onStatus('up', detail);
      } else if (status.type === Events.Error) {
        this.#options.onStatus('error', detail);
      }
    }
    this.#up = false;
  }
}

async function accessOptions({ user, password, credsFile, caFile }: NatsAccess): Promise<Partial<ConnectionOptions>> {
  return {
    ...(user === undefined ? {} : { user }),
    ...(password === undefined ? {} : { pass: password }),
    ...(credsFile === undefined ? {} : { authenticator: credsAuthenticator(await secretFile(credsFile)) }),
    ...(caFile === undefined ? {} : { tls: { ca: (await secretFile(caFile)).toString() } }),
  };
}

function secretFile(path: string): Promise<Buffer> {
  return readFile(path).catch((cause: unknown) => {
    throw new ServiceError(`the file ${path} for NATS cannot be read`, {
      code: 'failed_precondition',
      reason: 'bad_config',
      cause,
    });
  });
}

const REFUSALS: readonly string[] = [
  ErrorCode.AuthorizationViolation,
  ErrorCode.AuthenticationExpired,
  ErrorCode.PermissionsViolation,
];

/** Waiting doesn't help against a refusal. */
function refused(cause: unknown): never {
  if (!REFUSALS.includes((cause as NatsError).code)) throw cause as Error;
  throw new ServiceError(`the NATS server refused this worker: ${(cause as Error).message}; check its user and password`, {
    code: 'permission_denied',
    reason: 'bad_config',
    cause,
  });
}
