import { randomUUID } from 'node:crypto';
import { fail, ServiceError } from '@causeway/errors';
import { modelList, modelObject } from '@causeway/openai';
import { checkedRequestId, REQUEST_ID_KEY } from '@causeway/rpc';
import type { Logger } from '@causeway/telemetry';
import { type FastifyInstance, type FastifyReply, type FastifyRequest, fastify } from 'fastify';
import { answerHttp, chatInput, completionInput, type HttpInput } from '../handlers/http-answer.ts';
import { servedModels } from '../handlers/models.ts';
import { openRequest } from '../request-context.ts';
import type { RouterParts } from '../router-parts.ts';
import { fromFastifyError, httpError, parseJson } from './errors.ts';

export interface HttpServerOptions {
  readonly router: RouterParts;
  readonly maxBodyBytes: number;
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
  const { maxBodyBytes } = options;
  const server = fastify({
    bodyLimit: maxBodyBytes,
    logger: false,
    // A client that sends its request slower than this is cut off.
    requestTimeout: 60_000,
    keepAliveTimeout: 65_000,
    return503OnClosing: false,
    forceCloseConnections: 'idle',
    genReqId: (request) => checkedRequestId(request.headers[REQUEST_ID_KEY]) ?? randomUUID(),
  });
  server.addHook('onRequest', (request, reply, done) => {
    void reply.header(REQUEST_ID_KEY, request.id);
    done();
  });
  server.removeAllContentTypeParsers();
  server.addContentTypeParser('application/json', { parseAs: 'string' }, (_request, body, done) => {
    try {
      done(null, parseJson(String(body)));
    } catch (error) {
      done(error as Error, undefined);
    }
  });
  server.setErrorHandler((error, request, reply) => {
    const answer = fromFastifyError(error, maxBodyBytes);
    if (!(error instanceof ServiceError))
      options.log.info({ err: error, requestId: request.id, status: answer.status }, 'HTTP request refused');
    return reply.code(answer.status).headers(answer.headers).send(answer.body);
  });
  server.setNotFoundHandler((request, reply) => {
    const message = `${request.method} ${request.url.slice(0, 200)} is not served here; see GET /v1/models, POST /v1/chat/completions, POST /v1/completions`;
    const answer = httpError(new ServiceError(message, { code: 'not_found', reason: 'not_found' }));
    return reply.code(answer.status).send(answer.body);
  });
  modelRoutes(server, options);
  healthRoutes(server, options);
  server.post('/v1/chat/completions', (request, reply) => answer(request, reply, options, chatInput));
  server.post('/v1/completions', (request, reply) => answer(request, reply, options, completionInput));
  return server;
}

async function answer(
  request: FastifyRequest,
  reply: FastifyReply,
  options: HttpServerOptions,
  parse: (body: unknown) => HttpInput,
): Promise<void> {
  const { router } = options;
  const input = validated(request.body, parse, router);
  const gone = new AbortController();
  reply.raw.once('close', () => {
    if (!reply.raw.writableFinished)
      gone.abort(new ServiceError('the client went away', { code: 'cancelled', reason: 'cancelled' }));
  });
  using ctx = openRequest({
    id: request.id,
    log: options.log,
    timeoutMs: router.config.requestTimeoutMs,
    signals: [gone.signal, options.forceSignal],
  });
  await answerHttp(ctx, request, reply, input, router);
}

/** The parsed body; a refusal is counted. */
function validated(body: unknown, parse: (body: unknown) => HttpInput, router: RouterParts): HttpInput {
  try {
    return parse(body);
  } catch (error) {
    router.metrics.failed(ServiceError.from(error));
    throw error;
  }
}

/** The first request of each kind is slow: schemas and code are compiled then. Better at start. */
export async function warmUp(server: FastifyInstance): Promise<void> {
  chatInput({
    model: 'm',
    messages: [{ role: 'user', content: 'warm up' }],
    stream: true,
    temperature: 0,
    max_tokens: 1,
    stop: ['x'],
  });
  completionInput({ model: 'm', prompt: 'warm up' });
  await server.inject({ method: 'GET', url: '/v1/models' });
}

function modelRoutes(server: FastifyInstance, options: HttpServerOptions): void {
  const models = () => servedModels(options.router).map((model) => ({ ...model, created: options.startedAt }));
  server.get('/v1/models', () => modelList(models()));
  server.get<{ Params: { '*': string } }>('/v1/models/*', (request) => {
    const id = request.params['*'];
    const model = models().find((candidate) => candidate.id === id);
    if (model !== undefined) return modelObject(model);
    return fail('not_found', 'unknown_model', `the model '${id.slice(0, 200)}' does not exist here`, { field: 'model' });
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
