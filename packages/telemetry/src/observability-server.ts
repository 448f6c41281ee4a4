import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fail } from '@causeway/errors';
import { type Lifecycle, LIFECYCLE_STATES } from '@causeway/lifecycle';
import type { Registry } from 'prom-client';
import { createMetrics } from './metrics.ts';
import { VERSION } from './version.ts';

export interface ObservabilityOptions {
  host: string;
  /** 0: any free port. */
  port: number;
  registry: Registry;
  lifecycle: Lifecycle;
  /** What keeps the process from serving, each for a person: `NATS is not connected`. Empty: ready. Must be cheap. */
  ready?: () => readonly string[];
}

/** `/metrics` (Prometheus text), `/livez` (the loop turns and the process is not stopped), `/readyz` (200 or 503 with reasons as JSON). */
export interface ObservabilityServer extends AsyncDisposable {
  /** Opens the port; gives the port in use. Throws ServiceError `unavailable` when it is taken. */
  listen(): Promise<number>;
  /** 0 before `listen`. */
  readonly port: number;
}

/** Makes a process's observability server; nothing is opened before `listen`. */
export function createObservabilityServer(options: ObservabilityOptions): ObservabilityServer {
  const { lifecycle, registry } = options;
  exportLifecycle(lifecycle, registry);
  const server = createServer(
    { requestTimeout: 10_000, headersTimeout: 5_000, keepAliveTimeout: 30_000 },
    (request, response) => {
      void answer(request, response, options).catch(() => response.destroy());
    },
  );
  server.maxConnections = 256;
  server.unref();
  let closing: Promise<void> | undefined;
  let port = 0;
  return {
    get port() {
      return port;
    },
    listen: async () => {
      port = await listen(server, options);
      return port;
    },
    [Symbol.asyncDispose]: () => {
      closing ??= new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      });
      return closing;
    },
  };
}

function listen(server: Server, options: ObservabilityOptions): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  server.once('error', reject);
  server.listen(options.port, options.host, () => {
    server.off('error', reject);
    server.on('error', () => undefined);
    resolve((server.address() as AddressInfo).port);
  });
  return promise.catch((error: unknown) =>
    fail(
      'unavailable',
      'dependency_unavailable',
      `cannot listen for metrics on ${options.host}:${options.port}: ${(error as Error).message}`,
      {
        cause: error,
      },
    ),
  );
}

function exportLifecycle(lifecycle: Lifecycle, registry: Registry): void {
  const { lifecycleState, buildInfo } = createMetrics(['lifecycleState', 'buildInfo'], { registry });
  buildInfo.set({ version: VERSION }, 1);
  const update = (): void => {
    for (const state of LIFECYCLE_STATES) lifecycleState.set({ state }, state === lifecycle.state ? 1 : 0);
  };
  update();
  lifecycle.onChange(update);
}

async function answer(request: IncomingMessage, response: ServerResponse, options: ObservabilityOptions): Promise<void> {
  const path = (request.url ?? '').split('?', 1)[0];
  if (request.method !== 'GET' && request.method !== 'HEAD')
    return json(response, 405, { error: 'only GET and HEAD are served here' });
  switch (path) {
    case '/metrics': {
      const body = await options.registry.metrics();
      response.writeHead(200, { 'content-type': options.registry.contentType }).end(body);
      return;
    }
    case '/livez': {
      const { state } = options.lifecycle;
      return json(response, state === 'stopped' ? 503 : 200, { state });
    }
    case '/readyz': {
      const { state } = options.lifecycle;
      const reasons = [...(state === 'ready' ? [] : [`the process is ${state}`]), ...(options.ready?.() ?? [])];
      return json(response, reasons.length === 0 ? 200 : 503, { ready: reasons.length === 0, state, reasons });
    }
    default:
      return json(response, 404, { error: 'not found; served here: /metrics /livez /readyz' });
  }
}

function json(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(`${JSON.stringify(body)}\n`);
}
