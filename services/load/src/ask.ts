import { z } from 'zod';
import type { LoadConfig } from './config.ts';
import type { LoadRequest } from './requests.ts';

/** The model that the router serves. @throws Error when it serves none yet */
export async function servedModel(config: LoadConfig, signal: AbortSignal): Promise<string> {
  const response = await fetch(new URL('/v1/models', config.url), { signal, headers: authorization(config) });
  const body = await response.text();
  if (!response.ok) throw new Error(`${response.status}: ${body.slice(0, 300)}`);
  const { data } = modelList.parse(JSON.parse(body));
  if (data[0] === undefined) throw new Error('the router serves no model yet');
  return data[0].id;
}

const modelList = z.object({ data: z.array(z.object({ id: z.string() })) });

function authorization(config: LoadConfig): Record<string, string> {
  const key = config.apiKeys?.split(',')[0]?.trim();
  return key === undefined || key === '' ? {} : { authorization: `Bearer ${key}` };
}

/** Asks once and reads the whole stream. @throws Error with the status and the start of the body when it is no answer */
export async function ask(config: LoadConfig, model: string, request: LoadRequest, signal: AbortSignal): Promise<void> {
  const response = await fetch(new URL('/v1/chat/completions', config.url), {
    method: 'POST',
    signal,
    headers: { 'content-type': 'application/json', ...authorization(config) },
    body: JSON.stringify({
      model,
      messages: [{ role: 'user', content: request.content }],
      max_tokens: request.maxTokens,
      stream: true,
      ...(config.placement === 'auto' ? {} : { causeway: { placement: config.placement } }),
    }),
  });
  if (!response.ok) throw new Error(`${response.status}: ${(await response.text()).slice(0, 300)}`);
  let tail = '';
  const decoder = new TextDecoder();
  for await (const bytes of response.body ?? [])
    tail = (tail + decoder.decode(bytes as Uint8Array, { stream: true })).slice(-4096);
  if (!tail.includes('[DONE]')) throw new Error('the stream ended early');
}
