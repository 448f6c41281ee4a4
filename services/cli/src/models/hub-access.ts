/** How a Hugging Face hub is asked, and what its refusals mean. */
import { ServiceError } from '@causeway/errors';

export interface HubAccess {
  /** `https://huggingface.co`, without a slash at the end. */
  readonly endpoint: string;
  /** Sent with each request; not to other hosts that it redirects to (fetch drops `authorization` there). */
  readonly headers: Readonly<Record<string, string>>;
  readonly hasToken: boolean;
  /** A connection that brings nothing for this long is cut. */
  readonly stallMs: number;
  /** First pause before another attempt; it grows. */
  readonly retryMs: number;
}

export function hubAccess(options: {
  endpoint?: string | undefined;
  token?: string | undefined;
  stallMs?: number;
  retryMs?: number;
}): HubAccess {
  const { endpoint = 'https://huggingface.co', token, stallMs = 30_000, retryMs = 1000 } = options;
  return {
    endpoint: endpoint.replace(/\/+$/, ''),
    headers: { 'user-agent': 'causeway', ...(token === undefined ? {} : { authorization: `Bearer ${token}` }) },
    hasToken: token !== undefined,
    stallMs,
    retryMs,
  };
}

/** Whether another attempt may succeed. */
export function isPassing(error: ServiceError): boolean {
  return error.code === 'unavailable';
}

/** Makes an error of a response that is not what was asked for; its body is read, up to a few hundred characters. */
export async function hubError(response: Response, url: string, hub: HubAccess): Promise<ServiceError> {
  const { status, headers } = response;
  const said = headers.get('x-error-message') ?? (await firstText(response));
  const what = `${url} answers ${status}${said === '' ? '' : ` (${said})`}`;
  if (status === 401 || status === 403) {
    const advice = hub.hasToken
      ? 'the token in HF_TOKEN may not read it: it may be another account, or its terms were not accepted on the web page'
      : 'it does not exist, or is private or gated: set HF_TOKEN to a token that may read it';
    return new ServiceError(`${what}: ${advice}`, { code: 'permission_denied', reason: 'file_unreadable' });
  }
  if (status === 404)
    return new ServiceError(`${what}: there is nothing of that name`, { code: 'not_found', reason: 'not_found' });
  const passing = status === 408 || status === 429 || status >= 500;
  const after = Number(headers.get('retry-after') ?? Number.NaN);
  return new ServiceError(what, {
    code: passing ? 'unavailable' : 'failed_precondition',
    reason: 'dependency_unavailable',
    ...(passing && after >= 0 && after <= 300 ? { retryAfterSeconds: after } : {}),
  });
}

async function firstText(response: Response): Promise<string> {
  const type = response.headers.get('content-type') ?? '';
  const bytes = await readAtMost(response, 4096).catch(() => undefined);
  if (bytes === undefined || !/json|text\/plain/.test(type)) return '';
  return (
    bytes
      .toString('utf8')
      // oxlint-disable-next-line no-control-regex -- a server's text must not steer the terminal
      .replaceAll(/[\u0000-\u001f\u007f]+/g, ' ')
      .trim()
      .slice(0, 300)
  );
}

/** The first bytes of a body; the rest is not read. */
export async function readAtMost(response: Response, limit: number): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    chunks.push(chunk);
    bytes += chunk.byteLength;
    if (bytes >= limit) break;
  }
  return Buffer.concat(chunks).subarray(0, limit);
}
