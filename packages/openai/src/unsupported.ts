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
  { field: 'n', harmless: (v) => v === 1, what: 'only one answer per request (n = 1) is served' },
  { field: 'best_of', harmless: (v) => v === 1, what: 'only best_of = 1 is served' },
  { field: 'logprobs', harmless: (v) => v === false, what: 'log-probabilities are not served' },
  { field: 'top_logprobs', harmless: (v) => v === 0, what: 'log-probabilities are not served' },
  { field: 'tools', harmless: isEmpty, what: 'tool calls are not served' },
  { field: 'tool_choice', harmless: (v) => v === 'none' || v === 'auto', what: 'tool calls are not served' },
  { field: 'functions', harmless: isEmpty, what: 'function calls are not served' },
  { field: 'function_call', harmless: (v) => v === 'none' || v === 'auto', what: 'function calls are not served' },
  {
    field: 'response_format',
    harmless: (v) => typeof v === 'object' && v !== null && (v as { type?: unknown }).type === 'text',
    what: 'only {"type": "text"} is served',
  },
  { field: 'logit_bias', harmless: isEmpty, what: 'logit bias is not served' },
  { field: 'presence_penalty', harmless: (v) => v === 0, what: 'penalties are not served; leave it 0' },
  { field: 'frequency_penalty', harmless: (v) => v === 0, what: 'penalties are not served; leave it 0' },
  { field: 'repetition_penalty', harmless: (v) => v === 1, what: 'penalties are not served; leave it 1' },
  { field: 'min_p', harmless: (v) => v === 0, what: 'min_p is not served; leave it 0' },
  { field: 'min_tokens', harmless: (v) => v === 0, what: 'min_tokens is not served; leave it 0' },
  { field: 'echo', harmless: (v) => v === false, what: 'echo is not served' },
  { field: 'suffix', harmless: (v) => v === '', what: 'suffix is not served' },
  { field: 'audio', harmless: () => false, what: 'audio is not served' },
  {
    field: 'modalities',
    harmless: (v) => Array.isArray(v) && v.length === 1 && v[0] === 'text',
    what: 'only ["text"] is served',
  },
];

/**
 * Refuses what is known but not served.
 * @throws ServiceError `invalid_argument/unsupported_parameter` naming the field.
 */
export function refuseUnsupported(body: Body): void {
  for (const { field, harmless, what } of UNSUPPORTED) {
    const value = body[field];
    if (value === undefined || value === null || harmless(value)) continue;
    fail('invalid_argument', 'unsupported_parameter', `'${field}' is not supported here: ${what}`, { field });
  }
}
