import { ServiceError } from '@causeway/errors';
import { z } from 'zod';

/** Where a router is, and the key it wants. */
export interface RouterAddress {
  baseUrl: string;
  apiKey: string | undefined;
}

/**
 * One request to a router; the response is a good one.
 * @throws ServiceError with the server's own message, or `dependency_unavailable` when nobody answers; the signal's reason on abort
 */
export async function callRouter(
  { baseUrl, apiKey }: RouterAddress,
  path: string,
  init: Omit<RequestInit, 'headers'> & { headers?: Record<string, string>; signal: AbortSignal },
): Promise<Response> {
  const headers = { ...init.headers, ...(apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` }) };
  let response: Response;
  try {
    response = await fetch(baseUrl + path, { ...init, headers });
  } catch (error) {
    init.signal.throwIfAborted();
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause.message : String(error);
    throw unavailable(`no router answers at ${baseUrl} (${cause}); is a cluster up? ./causeway status`, error);
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

const errorBody = z.object({ error: z.object({ message: z.string() }) });

async function refusal(response: Response): Promise<ServiceError> {
  const text = await response.text();
  let message = text.slice(0, 300);
  try {
    message = errorBody.parse(JSON.parse(text)).error.message;
  } catch {
    // Not OpenAI's error body: the text itself is what is known.
  }
  return unavailable(`the router answers ${response.status}: ${message}`);
}

const modelList = z.object({ data: z.array(z.object({ id: z.string().min(1) })) });

/** The first model that a router serves. @throws ServiceError when it says none, or something else */
export async function servedModel(router: RouterAddress, signal: AbortSignal): Promise<string> {
  const { baseUrl } = router;
  const response = await callRouter(router, '/v1/models', { signal });
  const text = await response.text();
  let list: z.infer<typeof modelList>;
  try {
    list = modelList.parse(JSON.parse(text));
  } catch (error) {
    throw unavailable(`${baseUrl}/v1/models is no list of models: ${text.slice(0, 200)}`, error);
  }
  const first = list.data[0];
  if (first === undefined) throw unavailable(`${baseUrl} serves no model now: no decode worker is registered`);
  return first.id;
}

function unavailable(message: string, cause?: unknown): ServiceError {
  return new ServiceError(message, { code: 'unavailable', reason: 'dependency_unavailable', cause });
}
