/** Refusals that fastify and Node would answer by themselves, in words of their own: here they get OpenAI's body and a request id. */
import { randomUUID } from 'node:crypto';
import { type IncomingMessage, STATUS_CODES, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { ServiceError } from '@causeway/errors';
import { checkedRequestId, REQUEST_ID_KEY } from '@causeway/rpc';
import { fromParserError, httpError, refused } from './errors.ts';

/** How long a client that was refused in the middle of its request may take to read why. */
const LINGER_MS = 1000;

/** The id that a request brings along, or a new one. */
export function requestIdOf(request: IncomingMessage): string {
  return checkedRequestId(request.headers[REQUEST_ID_KEY]) ?? randomUUID();
}

/** What is no HTTP, or has too large headers: the answer is written to the socket, which then ends. */
export function clientErrorHandler(count: (error: ServiceError) => void): (error: Error, socket: Socket) => void {
  return (thrown, socket) => {
    // Gone, refused before, or in the middle of an answer: nothing can be said any more.
    const answering = (socket as { _httpMessage?: { headersSent?: boolean } | null })._httpMessage?.headersSent === true;
    if ((thrown as NodeJS.ErrnoException).code === 'ECONNRESET' || !socket.writable || answering) {
      socket.destroy();
      return;
    }
    const error = fromParserError(thrown);
    count(error);
    const { status, body } = httpError(error);
    const text = JSON.stringify(body);
    const head = [
      `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}`,
      'content-type: application/json; charset=utf-8',
      `content-length: ${Buffer.byteLength(text)}`,
      `${REQUEST_ID_KEY}: ${randomUUID()}`,
      'connection: close',
    ];
    socket.end(`${head.join('\r\n')}\r\n\r\n${text}`);
    setTimeout(() => socket.destroy(), LINGER_MS).unref();
  };
}

/** `Expect` with anything but `100-continue`: 417. */
export function expectationHandler(
  count: (error: ServiceError) => void,
): (request: IncomingMessage, response: ServerResponse) => void {
  return (request, response) => {
    const error = refused('expectation_failed', 'only "expect: 100-continue" is understood');
    count(error);
    const { status, body } = httpError(error);
    response.writeHead(status, {
      'content-type': 'application/json; charset=utf-8',
      [REQUEST_ID_KEY]: requestIdOf(request),
      connection: 'close',
    });
    response.end(JSON.stringify(body));
  };
}

/** HTTP/1.1 asks for a Host; Node's own refusal has no body. */
export function missingHost(request: IncomingMessage): ServiceError | undefined {
  if (request.httpVersion !== '1.1' || request.headers.host !== undefined) return undefined;
  return refused('bad_request', 'the request has no Host header');
}
