/**
 * Reference outputs beside a checkpoint, in their two forms:
 *  - `logits`: golden.json holds cases {prompt, last_logits, greedy, greedy_margin}; golden.safetensors holds `ids` [T] and
 *    `logits` [T, vocabulary] of one teacher-forced sequence;
 *  - `messages`: golden.json holds cases {messages, prompt_ids, greedy_ids, margins, top5}.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fail } from '@causeway/errors';
import { z } from 'zod';

const ids = z.array(z.number().int().nonnegative());

const logitsCase = z.object({
  prompt: ids.min(1),
  last_logits: z.array(z.number()),
  greedy: ids,
  greedy_margin: z.array(z.number()),
});

const messagesCase = z.object({
  messages: z.array(z.object({ role: z.string(), content: z.string() })),
  prompt_ids: ids.min(1),
  greedy_ids: ids,
  margins: z.array(z.number()),
  top5: z.array(z.array(z.tuple([z.number().int(), z.number()]))),
});

export type LogitsCase = z.infer<typeof logitsCase>;
export type MessagesCase = z.infer<typeof messagesCase>;

export type Golden =
  | { form: 'logits'; cases: LogitsCase[]; teacherForced: string | undefined }
  | { form: 'messages'; cases: MessagesCase[] };

/**
 * Reads the reference beside a checkpoint.
 * @throws ServiceError `file_unreadable` or `malformed_file` that names the file and what is wrong in it.
 */
export function readGolden(dir: string): Golden {
  const path = join(dir, 'golden.json');
  if (!existsSync(path)) {
    fail('not_found', 'file_unreadable', `${path} does not exist: verify needs reference outputs beside the checkpoint`);
  }
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(path, 'utf8'));
  } catch (cause) {
    fail('invalid_argument', 'malformed_file', `${path} is not JSON`, { cause });
  }
  const logits = z.object({ cases: z.array(logitsCase).min(1) }).safeParse(json);
  if (logits.success) {
    const tensors = join(dir, 'golden.safetensors');
    return { form: 'logits', cases: logits.data.cases, teacherForced: existsSync(tensors) ? tensors : undefined };
  }
  const messages = z.object({ cases: z.array(messagesCase).min(1) }).safeParse(json);
  if (messages.success) return { form: 'messages', cases: messages.data.cases };
  fail(
    'invalid_argument',
    'malformed_file',
    `${path} has neither form of reference:\nlogits form: ${z.prettifyError(logits.error)}\nmessages form: ${z.prettifyError(messages.error)}`,
  );
}
