import { fail, ServiceError } from '@causeway/errors';
import { z } from 'zod';

const PREFLIGHT_MS = 10_000;
const modelList = z.object({ data: z.array(z.object({ id: z.string().min(1) })) });

/** An endpoint's address as it is asked: with /v1 at its end. @throws ServiceError `bad_config` when it is no http address */
export function endpointUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    fail('invalid_argument', 'bad_config', `--url is http://HOST:PORT or https://HOST:PORT, with or without /v1; not "${text}"`);
  }
  const path = url.pathname.replace(/\/+$/, '');
  return `${url.origin}${path.endsWith('/v1') ? path : `${path}/v1`}`;
}

/**
 * Makes sure that somebody answers, and gives the model to ask for: the one wanted, else the first that is served.
 * @throws ServiceError that says what to do when nobody answers, the key is refused, or no model is known
 */
export async function findModelAt(
  o: { baseUrl: string; apiKey: string | undefined; model: string | undefined },
  signal: AbortSignal,
): Promise<string> {
  const { baseUrl } = o;
  let response: Response;
  let body: string;
  try {
    response = await fetch(`${baseUrl}/models`, {
      headers: o.apiKey === undefined ? {} : { authorization: `Bearer ${o.apiKey}` },
      signal: AbortSignal.any([signal, AbortSignal.timeout(PREFLIGHT_MS)]),
    });
    body = await response.text();
  } catch (error) {
    signal.throwIfAborted();
    const why = error instanceof Error && error.cause instanceof Error ? error.cause.message : String(error);
    throw unavailable(`nobody answers at ${baseUrl} (${why}): is the server up, and --url right?`, error);
  }
  if (response.status === 401 || response.status === 403) {
    throw unavailable(`${baseUrl} answers ${response.status}: it wants another key; set CAUSEWAY_API_KEY`);
  }
  if (o.model !== undefined) return o.model;
  if (!response.ok) throw unavailable(`${baseUrl}/models answers ${response.status}: name the model with --model`);
  try {
    const [first] = modelList.parse(JSON.parse(body)).data;
    if (first !== undefined) return first.id;
  } catch (error) {
    throw unavailable(
      `${baseUrl}/models is no list of models; is this an OpenAI-compatible endpoint? ${body.slice(0, 200)}`,
      error,
    );
  }
  throw unavailable(`${baseUrl} serves no model now; name one with --model`);
}

function unavailable(message: string, cause?: unknown): ServiceError {
  return new ServiceError(message, { code: 'unavailable', reason: 'dependency_unavailable', cause });
}
