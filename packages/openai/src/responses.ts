/** Bodies and chunks of answers, in OpenAI's forms. */
import { type AnswerMessage, type AnswerPart, partDelta } from './answer-parts.ts';
import type { Usage } from './usage.ts';

export type FinishReasonName = 'stop' | 'length' | 'tool_calls';

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

/** The body of an answer; `choices` are JSON already, in order. */
export function answerJson(form: AnswerForm, head: AnswerHead, choices: readonly string[], usage: Usage): string {
  const object = form === 'chat' ? 'chat.completion' : 'text_completion';
  const start = JSON.stringify({ id: head.id, object, created: head.created, model: head.model });
  return `${start.slice(0, -1)},"choices":[${choices.join(',')}],"usage":${JSON.stringify(usage)}}`;
}

/** One entry of `choices` as JSON: an answer's text, or the message of a chat answer. `logprobs` is JSON already, or null. */
export function choiceJson(
  form: AnswerForm,
  index: number,
  text: string | AnswerMessage,
  finishReason: FinishReasonName,
  logprobs: string | null,
): string {
  const plain = typeof text === 'string';
  const message = plain ? { role: 'assistant', content: text, refusal: null } : text.toJson();
  const content = form === 'chat' ? { message } : { text };
  const reason = plain ? finishReason : text.finishReason(finishReason);
  const choice = JSON.stringify({ index, ...content, finish_reason: reason });
  return `${choice.slice(0, -1)},"logprobs":${logprobs}}`;
}

/** Makes the SSE events of one streamed answer; each call gives the text to write. `index` is the choice that it is about. */
export interface StreamEvents {
  /** The opening event of a choice: the role in chat, nothing in completions. */
  start(index: number): string;
  /** `logprobs`: those of the token whose chunk this is, when they are wanted. */
  text(index: number, text: string, logprobs?: object): string;
  /** The same of a chat answer whose parts are told apart: a chunk for each; without any, one for the log-probabilities. */
  parts(index: number, parts: readonly AnswerPart[], logprobs?: object): string;
  /** The last chunk of a choice: finish_reason; of the choice that ends last also usage with the KV report, always. */
  finish(index: number, reason: FinishReasonName, usage?: Usage): string;
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
  // All chunks of a stream are equal up to here: only what is new is written anew.
  const { id, created, model } = head;
  const start = `data: ${JSON.stringify({ id, object, created, model }).slice(0, -1)},"choices":[`;
  const rest = includeUsage ? '],"usage":null}\n\n' : ']}\n\n';
  const [open, close] = form === 'chat' ? ['"delta":{"content":', '}'] : ['"text":', ''];
  const textChunk = (index: number, text: string, logprobs: object | undefined): string => {
    const told = logprobs === undefined ? 'null' : JSON.stringify(logprobs);
    return `${start}{"index":${index},${open}${JSON.stringify(text)}${close},"logprobs":${told},"finish_reason":null}${rest}`;
  };
  const chunk = (choices: readonly object[], usage?: Usage): string => {
    const list = choices.map((choice) => JSON.stringify(choice)).join(',');
    return usage === undefined ? `${start}${list}${rest}` : `${start}${list}],"usage":${JSON.stringify(usage)}}\n\n`;
  };
  const choice = (
    index: number,
    content: object,
    finishReason: FinishReasonName | null,
    logprobs: object | null = null,
  ): object => ({
    index,
    ...content,
    logprobs,
    finish_reason: finishReason,
  });
  return {
    start: (index) => (form === 'chat' ? chunk([choice(index, { delta: { role: 'assistant', content: '' } }, null)]) : ''),
    text: textChunk,
    parts: (index, parts, logprobs) => {
      const deltas = parts.flatMap((part) => partDelta(part) ?? []);
      if (deltas.length === 0 && logprobs !== undefined) deltas.push({ content: '' });
      return deltas.map((delta, at) => chunk([choice(index, { delta }, null, at === 0 ? logprobs : null)])).join('');
    },
    finish: (index, reason, usage) => chunk([choice(index, form === 'chat' ? { delta: {} } : { text: '' }, reason)], usage),
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
