/** Where a tokenizer comes from: Hugging Face's files beside a checkpoint, or GGUF metadata rebuilt in the same form. */
import { join } from 'node:path';
import { fail } from '@causeway/errors';
import { z } from 'zod';
import { exists, FILE_LIMITS, readJson, readText } from './small-file.ts';

/** Plain JSON values: structured-clonable, so that it can be sent to a worker thread. */
export interface TokenizerSource {
  /** Contents of tokenizer.json. */
  tokenizer: Record<string, unknown>;
  /** Contents of tokenizer_config.json. */
  config: Record<string, unknown>;
  /** Jinja chat template. */
  chatTemplate: string | undefined;
  /** One of its own for requests with tools. */
  toolTemplate?: string | undefined;
}

const object = z.record(z.string(), z.unknown());
/** Older files have several templates by name. */
const templateList = z.array(z.object({ name: z.string(), template: z.string() }));

/**
 * Reads tokenizer.json, tokenizer_config.json and chat_template.jinja of a directory; undefined without tokenizer.json.
 * @throws ServiceError `file_unreadable`, `malformed_file`.
 */
export function huggingFaceTokenizerSource(dir: string): TokenizerSource | undefined {
  const path = join(dir, 'tokenizer.json');
  if (!exists(path)) return undefined;
  const configPath = join(dir, 'tokenizer_config.json');
  const config = exists(configPath) ? readObject(configPath) : {};
  const toolTemplate = namedTemplate(config.chat_template, 'tool_use');
  return {
    tokenizer: readObject(path),
    config,
    chatTemplate: readTemplate(dir, config.chat_template),
    ...(toolTemplate === undefined ? {} : { toolTemplate }),
  };
}

/** A chat template from a file of its own. @throws ServiceError `file_unreadable`, `malformed_file`. */
export function readChatTemplate(path: string): string {
  return readText(path, FILE_LIMITS.template);
}

/** The template's own file wins over the one inside tokenizer_config.json, as in transformers. */
function readTemplate(dir: string, inline: unknown): string | undefined {
  const path = join(dir, 'chat_template.jinja');
  if (exists(path)) return readChatTemplate(path);
  return typeof inline === 'string' ? inline : namedTemplate(inline, 'default');
}

/** One of several templates. */
function namedTemplate(inline: unknown, wanted: string): string | undefined {
  return templateList.safeParse(inline).data?.find(({ name }) => name === wanted)?.template;
}

function readObject(path: string): Record<string, unknown> {
  const json = readJson(path, FILE_LIMITS.tokenizer);
  if (typeof json === 'object' && json !== null && !Array.isArray(json)) return object.parse(json);
  return fail('invalid_argument', 'malformed_file', `${path} is not a JSON object`);
}
