/**
 * What a chat template does with tools, found by rendering a small conversation and looking for what went in: templates don't say it,
 * and differ in the form that they take calls in.
 */

/** The form of an assistant's message with calls and no text. */
export interface CallForm {
  readonly content: '' | null;
  /** JSON text, or the object that it stands for, which is transformers' way. */
  readonly arguments: 'object' | 'text';
}

export interface TemplateFacts {
  /** The template's own text. */
  readonly text: string;
  /** Definitions of tools reach the prompt. */
  readonly rendersTools: boolean;
  /** How calls of earlier messages reach it; undefined when they do not. */
  readonly calls: CallForm | undefined;
}

type Render = (variables: Record<string, unknown>) => string;

const USER = { role: 'user', content: 'probe_user' };
const TOOL = {
  type: 'function',
  function: {
    name: 'probe_tool',
    description: 'probe_description',
    parameters: {
      type: 'object',
      properties: { probe_key: { type: 'string', description: 'probe_description' } },
      required: ['probe_key'],
    },
  },
};
const ARGUMENTS = { probe_key: 'probe_value' };
const FORMS: readonly CallForm[] = [
  { content: '', arguments: 'object' },
  { content: null, arguments: 'object' },
  { content: '', arguments: 'text' },
  { content: null, arguments: 'text' },
];

export function templateFacts(text: string, render: Render): TemplateFacts {
  const attempt = (variables: Record<string, unknown>): string => {
    try {
      return render({ add_generation_prompt: true, ...variables });
    } catch {
      return '';
    }
  };
  const rendersTools = attempt({ messages: [USER], tools: [TOOL] }).includes(TOOL.function.name);
  // A template for requests with tools alone may need some.
  const tools = rendersTools && attempt({ messages: [USER] }) === '' ? { tools: [TOOL] } : {};
  return {
    text,
    rendersTools,
    calls: FORMS.find((form) => rendersCalls(attempt({ ...tools, messages: [USER, callMessage(form), answerMessage()] }))),
  };
}

function callMessage(form: CallForm): object {
  const given = form.arguments === 'object' ? ARGUMENTS : JSON.stringify(ARGUMENTS);
  const call = { id: 'functions.probe_tool:0', type: 'function', function: { name: 'probe_tool', arguments: given } };
  return { role: 'assistant', content: form.content, tool_calls: [call] };
}

function answerMessage(): object {
  return { role: 'tool', tool_call_id: 'functions.probe_tool:0', name: 'probe_tool', content: 'probe_result' };
}

/** The call is there, its arguments as JSON or in tags of their own, and not as JSON inside a JSON string. */
function rendersCalls(text: string): boolean {
  return ['probe_tool', 'probe_key', 'probe_value'].every((part) => text.includes(part)) && !text.includes('\\"probe_key');
}
