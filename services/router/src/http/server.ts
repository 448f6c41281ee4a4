import { fail, ServiceError } from '@causeway/errors';
import { type AnswerForm, modelList, modelObject } from '@causeway/openai';
import { inferenceV1 } from '@causeway/proto';
import { REQUEST_ID_KEY } from '@causeway/rpc';
import type { Logger } from '@causeway/telemetry';
import { type FastifyInstance, type FastifyReply, type FastifyRequest, fastify } from 'fastify';
import type { ApiKeys } from '../api-keys.ts';
import { answerHttp, bodyOf } from '../handlers/http-answer.ts';
import type { ModelRouters } from '../handlers/model-routers.ts';
import { servedModels } from '../handlers/models.ts';
import { tokenized } from '../handlers/tokenized.ts';
import { readRequest } from '../request/read-request.ts';
import { openRequest, type RequestContext } from '../request-context.ts';
import { VERSION } from '../version.ts';
import { clientErrorHandler, expectationHandler, missingHost, requestIdOf } from './before-routing.ts';
import { fromFastifyError, httpError } from './errors.ts';

export interface HttpServerOptions {
  readonly routers: ModelRouters;
  readonly maxBodyBytes: number;
  readonly keys: ApiKeys;
  readonly log: Logger;
  /** Aborts when the drain time is over. */
  readonly forceSignal: AbortSignal;
  /** What keeps the router from serving; empty: ready. */
  readonly ready: () => readonly string[];
  /** Seconds since 1970, for the list of models. */
  readonly startedAt: number;
}

/** The OpenAI API over HTTP; nothing is opened before `listen`. */
export function createHttpServer(options: HttpServerOptions): FastifyInstance {
  const { keys, maxBodyBytes, routers } = options;
  const count = (error: ServiceError): void => routers.first.metrics.failed(error);
  const server = fastify({
    bodyLimit: maxBodyBytes,
    logger: false,
    // A client that sends its request slower than this is cut off.
    requestTimeout: 60_000,
    keepAliveTimeout: 65_000,
    return503OnClosing: false,
    forceCloseConnections: 'idle',
    genReqId: requestIdOf,
    // Node's own refusal has no body; `missingHost` has one.
    http: { requireHostHeader: false },
    clientErrorHandler: clientErrorHandler(count),
    frameworkErrors: (error, request, reply) => {
      void reply.header(REQUEST_ID_KEY, request.id);
      refuse(error, request, reply, options);
    },
  });
  server.server.on('checkExpectation', expectationHandler(count));
  server.addHook('onRequest', (request, reply, done) => {
    void reply.header(REQUEST_ID_KEY, request.id);
    done(missingHost(request.raw) ?? keyProblem(request, keys));
  });
  server.removeAllContentTypeParsers();
  // Bytes: whoever reads the request knows whether it is small enough to be read here.
  server.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
  server.setErrorHandler((error, request, reply) => refuse(error, request, reply, options));
  server.setNotFoundHandler((request, reply) => notFound(request, reply, count));
  modelRoutes(server, options);
  healthRoutes(server, options);
  const answer = (form: AnswerForm) => (request: FastifyRequest, reply: FastifyReply) =>
    withContext(request, reply, options, async (ctx) =>
      answerHttp(ctx, request, reply, form, await routers.of(ctx, { kind: form, body: bodyOf(request) })),
    );
  server.post('/v1/chat/completions', answer('chat'));
  server.post('/v1/completions', answer('completion'));
  tokenRoutes(server, options);
  server.get('/version', () => ({ version: VERSION }));
  return server;
}

/** Whoever looks after the process has no key. */
const OPEN: ReadonlySet<string | undefined> = new Set(['/livez', '/readyz', '/health']);

/** Before the body is read, and before anything says which paths there are. */
function keyProblem(request: FastifyRequest, keys: ApiKeys): ServiceError | undefined {
  if (OPEN.has(request.routeOptions.url)) return undefined;
  try {
    keys.check(request.headers.authorization);
    return undefined;
  } catch (error) {
    return ServiceError.from(error);
  }
}

/** Sends an error and counts it, if nobody did. */
function refuse(error: unknown, request: FastifyRequest, reply: FastifyReply, options: HttpServerOptions): FastifyReply {
  const known = fromFastifyError(error, options.maxBodyBytes);
  const { status, headers, body } = httpError(known);
  options.routers.first.metrics.failed(known);
  if (!(error instanceof ServiceError)) {
    options.log.info({ err: error, requestId: request.id, status }, 'HTTP request refused');
  }
  return reply.code(status).headers(headers).send(body);
}

/** Methods of the paths that are served. */
const ALLOWED: readonly (readonly [path: RegExp, methods: string])[] = [
  [/^\/v1\/(chat\/)?completions$/, 'POST'],
  [/^\/(de)?tokenize$/, 'POST'],
  [/^\/v1\/models(\/.*)?$/, 'GET, HEAD'],
  [/^\/(livez|readyz|health|version)$/, 'GET, HEAD'],
];

function notFound(request: FastifyRequest, reply: FastifyReply, count: (error: ServiceError) => void): FastifyReply {
  const path = request.url.replace(/[?#].*$/s, '');
  const allowed = ALLOWED.find(([served]) => served.test(path))?.[1];
  const asked = `${request.method} ${request.url.slice(0, 200)}`;
  const error =
    allowed === undefined
      ? new ServiceError(`${asked} is not served here; see GET /v1/models, POST /v1/chat/completions, POST /v1/completions`, {
          code: 'not_found',
          reason: 'not_found',
        })
      : new ServiceError(`${asked} is not served here; this path takes ${allowed}`, {
          code: 'unimplemented',
          reason: 'method_not_allowed',
        });
  count(error);
  if (allowed !== undefined) void reply.header('allow', allowed);
  const { status, body } = httpError(error);
  return reply.code(status).send(body);
}

/** vLLM's. */
function tokenRoutes(server: FastifyInstance, options: HttpServerOptions): void {
  for (const [path, kind] of [
    ['/tokenize', 'tokenize_http'],
    ['/detokenize', 'detokenize_http'],
  ] as const) {
    server.post(path, (request, reply) =>
      withContext(request, reply, options, async (ctx) => {
        const source = { kind, body: bodyOf(request) };
        const body = await tokenized(ctx, source, await options.routers.of(ctx, source));
        void reply.header('content-type', 'application/json; charset=utf-8');
        await reply.send(Buffer.from(body.buffer, body.byteOffset, body.byteLength));
      }),
    );
  }
}

/** Works for a request until it is answered, the client is gone or its time is over. */
async function withContext(
  request: FastifyRequest,
  reply: FastifyReply,
  options: HttpServerOptions,
  work: (ctx: RequestContext) => Promise<void>,
): Promise<void> {
  const { config, traces } = options.routers.first;
  const gone = new AbortController();
  reply.raw.once('close', () => {
    if (!reply.raw.writableFinished)
      gone.abort(new ServiceError('the client went away', { code: 'cancelled', reason: 'cancelled' }));
  });
  using ctx = openRequest({
    id: request.id,
    log: options.log,
    timeoutMs: config.requestTimeoutMs,
    signals: [gone.signal, options.forceSignal],
    span: traces.begin(
      `${request.method} ${request.routeOptions.url ?? ''}`,
      (name) => {
        const value = request.headers[name];
        return typeof value === 'string' ? value : undefined;
      },
      { 'causeway.request_id': request.id },
    ),
  });
  await work(ctx);
}

/** The first request of each kind is slow: schemas and code are compiled then. Better at start. */
export async function warmUp(server: FastifyInstance): Promise<void> {
  const options = { model: 'm', stream: true, temperature: 0, max_tokens: 1, stop: ['x'] };
  readRequest('chat', Buffer.from(JSON.stringify({ ...options, messages: [{ role: 'user', content: 'warm up' }] })));
  readRequest('completion', Buffer.from(JSON.stringify({ ...options, prompt: 'warm up' })));
  const input = { $case: 'prompt' as const, value: 'warm up' };
  readRequest('generate', inferenceV1.GenerateRequest.encode(inferenceV1.GenerateRequest.fromPartial({ input })).finish());
  await server.inject({ method: 'GET', url: '/v1/models' });
}

function modelRoutes(server: FastifyInstance, options: HttpServerOptions): void {
  const models = () => servedModels(options.routers.each).map((model) => ({ ...model, created: options.startedAt }));
  server.get('/v1/models', () => modelList(models()));
  server.get<{ Params: { '*': string } }>('/v1/models/*', (request) => {
    const id = request.params['*'];
    const model = models().find((candidate) => candidate.id === id);
    if (model !== undefined) return modelObject(model);
    const served = options.routers.each.map((router) => router.model).join(', ');
    const message = `the model '${id.slice(0, 200)}' is not served here now; this router is for ${served}`;
    return fail('not_found', 'unknown_model', message, { field: 'model' });
  });
}

function healthRoutes(server: FastifyInstance, options: HttpServerOptions): void {
  const ready = (_request: FastifyRequest, reply: FastifyReply): FastifyReply => {
    const reasons = options.ready();
    return reply.code(reasons.length === 0 ? 200 : 503).send({ ready: reasons.length === 0, reasons });
  };
  server.get('/livez', () => ({ status: 'ok' }));
  server.get('/readyz', ready);
  server.get('/health', ready);
}
