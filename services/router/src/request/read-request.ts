import { ServiceError } from '@causeway/errors';
import { parseChatRequest, parseCompletionRequest, parseDetokenizeRequest, parseTokenizeRequest } from '@causeway/openai';
import { NO_OPTIONS, readGenerateRequest, readTokenizeRequest } from './grpc-messages.ts';
import type { ReadRequest, RequestKind } from './request.ts';

/**
 * Reads and validates a request. Up to 0.1 µs a byte (deeply nested JSON): large ones belong in a thread.
 * @throws ServiceError `invalid_argument` naming the field at fault
 */
export function readRequest(kind: RequestKind, body: Uint8Array): ReadRequest {
  switch (kind) {
    case 'chat': {
      const { model, messages, options, template, output } = parseChatRequest(parseJson(body));
      return {
        fields: { kind, model, promptField: 'messages', options, output },
        prompts: [{ kind: 'chat', messages, template }],
      };
    }
    case 'completion': {
      const { model, prompts, options } = parseCompletionRequest(parseJson(body));
      return { fields: { kind, model, promptField: 'prompt', options }, prompts };
    }
    case 'generate':
      return readGenerateRequest(body);
    case 'tokenize':
      return readTokenizeRequest(body);
    case 'tokenize_http': {
      const { model, input, special } = parseTokenizeRequest(parseJson(body));
      const promptField = input.kind === 'chat' ? 'messages' : 'prompt';
      return { fields: { kind, model, promptField, options: NO_OPTIONS }, prompts: [{ ...input, special }] };
    }
    case 'detokenize_http': {
      const { model, tokens } = parseDetokenizeRequest(parseJson(body));
      return { fields: { kind, model, promptField: 'tokens', options: NO_OPTIONS }, prompts: [{ kind: 'tokens', ids: tokens }] };
    }
  }
}

/** @throws ServiceError `bad_json` saying where the text stops being JSON. */
function parseJson(body: Uint8Array): unknown {
  const text = Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString('utf8');
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    const why = text.trim() === '' ? 'it is empty' : (cause as Error).message.slice(0, 200);
    throw new ServiceError(`the body is not JSON: ${why}`, { code: 'invalid_argument', reason: 'bad_json', cause });
  }
}
