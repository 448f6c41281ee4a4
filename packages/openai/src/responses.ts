/** Bodies and chunks of answers, in OpenAI's forms. */
import type { Usage } from './usage.ts';

export type FinishReasonName = 'stop' | 'length';

/** What all bodies and chunks of one answer share. */
export interface AnswerHead {
  /** `chatcmpl-...` or `cmpl-...`. */
  id: string;
  /** Seconds since 1970. */
  created: number;
  model: string;
}

/** Which of the two endpoints answers. */
export type AnswerForm = 'chat' | 'completion';

/** Builds one answer's JSON body. */
export function answerBody(
  form: AnswerForm,
  head: AnswerHead,
  text: string,
  finishReason: FinishReasonName,
  usage: Usage,
): object {
  const choice =
    form === 'chat'
      ? { index: 0, message: { role: 'assistant', content: text, refusal: null }, logprobs: null, finish_reason: finishReason }
      : { index: 0, text, logprobs: null, finish_reason: finishReason };
  return {
    id: head.id,
    object: form === 'chat' ? 'chat.completion' : 'text_completion',
    created: head.created,
    model: head.model,
    choices: [choice],
    usage,
  };
}

/** Makes the SSE events of one streamed answer; each call gives the text to write. */
export interface StreamEvents {
  /** The opening event: the role in chat, nothing in completions. */
  start(): string;
  text(text: string): string;
  /** The last chunk with a choice: finish_reason, and usage with the KV report, always. */
  finish(reason: FinishReasonName, usage: Usage): string;
  /** OpenAI's extra chunk for `include_usage`. */
  usage(usage: Usage): string;
  /** An error after the stream has begun; clients raise it. */
  error(body: { error: object }): string;
  done(): string;
}

/**
 * Events of a streamed answer. With `includeUsage` every chunk but the last two carries `usage: null`, as OpenAI's do.
 */
export function streamEvents(form: AnswerForm, head: AnswerHead, includeUsage: boolean): StreamEvents {
  const object = form === 'chat' ? 'chat.completion.chunk' : 'text_completion';
  const chunk = (choices: readonly object[], usage?: Usage): string => {
    const body = { id: head.id, object, created: head.created, model: head.model, choices };
    if (usage !== undefined) return event({ ...body, usage });
    return event(includeUsage ? { ...body, usage: null } : body);
  };
  const choice = (content: object, finishReason: FinishReasonName | null): object => ({
    index: 0,
    ...content,
    logprobs: null,
    finish_reason: finishReason,
  });
  return {
    start: () => (form === 'chat' ? chunk([choice({ delta: { role: 'assistant', content: '' } }, null)]) : ''),
    text: (text) => chunk([choice(form === 'chat' ? { delta: { content: text } } : { text }, null)]),
    finish: (reason, usage) => chunk([choice(form === 'chat' ? { delta: {} } : { text: '' }, reason)], usage),
    usage: (usage) => chunk([], usage),
    error: (body) => event(body),
    done: () => 'data: [DONE]\n\n',
  };
}

/** One server-sent event. JSON has no raw line breaks, so one `data:` line is enough. */
function event(body: object): string {
  return `data: ${JSON.stringify(body)}\n\n`;
}

export interface ModelEntry {
  id: string;
  /** Seconds since 1970. */
  created: number;
  contextLength: number;
}

/** Body of GET /v1/models; `max_model_len` as vLLM names the context length. */
export function modelList(models: readonly ModelEntry[]): object {
  return { object: 'list', data: models.map(modelObject) };
}

/** One model, as in GET /v1/models/{id}. */
export function modelObject(model: ModelEntry): object {
  return { id: model.id, object: 'model', created: model.created, owned_by: 'causeway', max_model_len: model.contextLength };
}
