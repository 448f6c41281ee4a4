import { fail } from '@causeway/errors';

type Body = Readonly<Record<string, unknown>>;

interface Unsupported {
  field: string;
  /** True when this value asks for nothing beyond what is served anyway. */
  harmless: (value: unknown) => boolean;
  what: string;
}

const isEmpty = (value: unknown): boolean => typeof value === 'object' && value !== null && Object.keys(value).length === 0;

/** Fields of OpenAI's API that would change the answer and aren't served; silently ignoring them would be a wrong answer. */
const UNSUPPORTED: readonly Unsupported[] = [
  { field: 'tools', harmless: isEmpty, what: 'tools are called in chats: use /v1/chat/completions' },
  {
    field: 'tool_choice',
    harmless: (v) => v === 'none' || v === 'auto',
    what: 'tools are called in chats: use /v1/chat/completions',
  },
  { field: 'functions', harmless: isEmpty, what: 'functions gave way to tools: use "tools" and "tool_choice"' },
  {
    field: 'function_call',
    harmless: (v) => v === 'none' || v === 'auto',
    what: 'functions gave way to tools: use "tools" and "tool_choice"',
  },
  // OpenAI's default asks for nothing; a model that reasons on demand isn't served.
  {
    field: 'reasoning_effort',
    harmless: (v) => v === 'none' || v === 'medium',
    what: 'there is no reasoning to be set; leave it out',
  },
  { field: 'verbosity', harmless: (v) => v === 'medium', what: 'verbosity is not served; leave it out' },
  { field: 'web_search_options', harmless: () => false, what: 'web search is not served' },
  // vLLM's.
  { field: 'use_beam_search', harmless: (v) => v === false, what: 'beam search is not served' },
  { field: 'length_penalty', harmless: (v) => v === 1, what: 'penalties are not served; leave it 1' },
  { field: 'bad_words', harmless: isEmpty, what: 'forbidden words are not served' },
  { field: 'allowed_token_ids', harmless: isEmpty, what: 'allowed tokens are not served' },
  { field: 'truncate_prompt_tokens', harmless: () => false, what: 'prompts are never shortened' },
  { field: 'prompt_logprobs', harmless: (v) => v === 0, what: 'log-probabilities are not served' },
  { field: 'include_stop_str_in_output', harmless: (v) => v === false, what: 'stop strings are never part of the answer' },
  { field: 'skip_special_tokens', harmless: (v) => v === true, what: 'special tokens are never part of the text' },
  { field: 'add_generation_prompt', harmless: (v) => v === true, what: 'only true is served' },
  { field: 'continue_final_message', harmless: (v) => v === false, what: 'only false is served' },
  { field: 'chat_template', harmless: () => false, what: "the model's own template is used" },
  { field: 'chat_template_kwargs', harmless: isEmpty, what: 'chat templates are for chats: use /v1/chat/completions' },
  {
    field: 'guided_grammar',
    harmless: () => false,
    what: 'grammars are not served; use response_format, guided_regex or guided_choice',
  },
  { field: 'echo', harmless: (v) => v === false, what: 'prompts are given back by /v1/completions only' },
  { field: 'suffix', harmless: (v) => v === '', what: 'suffix is not served' },
  { field: 'audio', harmless: () => false, what: 'audio is not served' },
  {
    field: 'modalities',
    harmless: (v) => Array.isArray(v) && v.length === 1 && v[0] === 'text',
    what: 'only ["text"] is served',
  },
];

/**
 * Refuses what is known but not served; `served` are fields that this endpoint reads.
 * @throws ServiceError `invalid_argument/unsupported_parameter` naming the field.
 */
export function refuseUnsupported(body: Body, served: readonly string[] = []): void {
  for (const { field, harmless, what } of UNSUPPORTED) {
    const value = body[field];
    if (value === undefined || value === null || served.includes(field) || harmless(value)) continue;
    fail('invalid_argument', 'unsupported_parameter', `'${field}' is not supported here: ${what}`, { field });
  }
}
