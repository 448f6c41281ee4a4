/** Chat templates: Jinja as transformers' apply_chat_template runs it. */
import { fail } from '@causeway/errors';
import { Template } from '@huggingface/jinja';

export interface ChatMessage {
  role: string;
  content: string;
}

export interface RenderOptions {
  /** Ends with the opening of the assistant's answer; default true. */
  addGenerationPrompt?: boolean;
  /** More variables that the template may read (`tools`, `enable_thinking`, ...). */
  variables?: Readonly<Record<string, unknown>>;
}

/** Renders messages to the text of a prompt. */
export type RenderChat = (messages: readonly ChatMessage[], options?: RenderOptions) => string;

/**
 * Compiles a template. `specials` are the texts of special tokens by name (`bos_token`, `eos_token`, ...).
 * The renderer throws ServiceError `bad_request` when there is no template or it refuses the messages.
 * @throws Error when the template does not parse.
 */
export function compileChatTemplate(text: string | undefined, specials: Readonly<Record<string, string>>): RenderChat {
  const template = text === undefined ? undefined : new Template(text);
  return (messages, options = {}) => {
    if (template === undefined) {
      return fail('invalid_argument', 'bad_request', 'this model has no chat template: use /v1/completions', {
        field: 'messages',
      });
    }
    try {
      return template.render({
        ...options.variables,
        ...specials,
        messages,
        add_generation_prompt: options.addGenerationPrompt ?? true,
      });
    } catch (cause) {
      return fail('invalid_argument', 'bad_request', `the chat template refuses these messages: ${(cause as Error).message}`, {
        field: 'messages',
        cause,
      });
    }
  };
}

/** Texts of `bos_token`, `eos_token`, ... in tokenizer_config.json: strings, or objects with `content`. */
export function specialTokenTexts(config: Readonly<Record<string, unknown>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(config).flatMap(([key, value]) => {
      if (!key.endsWith('_token')) return [];
      const text = typeof value === 'object' && value !== null && 'content' in value ? value.content : value;
      return typeof text === 'string' ? [[key, text]] : [];
    }),
  );
}
