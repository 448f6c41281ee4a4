/** tiny-moe with another chat template, and marks of calls and reasoning that its tokenizer has as tokens. */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadTokenizer, openCheckpoint, type Tokenizer } from '@causeway/model-files';
import { MODEL_PATH } from './harness.ts';

/** Marks that are special tokens here, as in some published tokenizers, and some that are not, as in others. */
const SPECIAL = [
  '<|tool_calls_section_begin|>',
  '<|tool_calls_section_end|>',
  '<|tool_call_begin|>',
  '<|tool_call_argument_begin|>',
  '<|tool_call_end|>',
  '<｜tool▁calls▁begin｜>',
  '<｜tool▁calls▁end｜>',
  '<｜tool▁call▁begin｜>',
  '<｜tool▁call▁end｜>',
  '<｜tool▁sep｜>',
  '<|python_tag|>',
];
const PLAIN = ['<tool_call>', '</tool_call>', '<think>', '</think>'];

export interface MarkedModel extends Disposable {
  readonly path: string;
  readonly tokenizer: Tokenizer;
}

/** A folder of its own; the template is one of tests/chat-templates. */
export async function markedModel(template: string): Promise<MarkedModel> {
  const path = mkdtempSync(join(tmpdir(), 'causeway-marked-'));
  cpSync(MODEL_PATH, path, { recursive: true });
  const file = join(path, 'tokenizer.json');
  const definition = JSON.parse(readFileSync(file, 'utf8')) as { added_tokens: object[]; model: { vocab: object } };
  const first = Object.keys(definition.model.vocab).length;
  const mark = (content: string, at: number, special: boolean): object => ({
    ...definition.added_tokens[0],
    id: first + at,
    content,
    special,
  });
  const marks = [
    ...SPECIAL.map((content, at) => mark(content, at, true)),
    ...PLAIN.map((content, at) => mark(content, SPECIAL.length + at, false)),
  ];
  definition.added_tokens.push(...marks);
  writeFileSync(file, JSON.stringify(definition));
  const source = fileURLToPath(new URL(`../chat-templates/${template}.jinja`, import.meta.url));
  writeFileSync(join(path, 'chat_template.jinja'), readFileSync(source));
  using checkpoint = await openCheckpoint(path);
  if (checkpoint.tokenizerSource === undefined) throw new Error('the copy has no tokenizer');
  return {
    path,
    tokenizer: loadTokenizer(checkpoint.tokenizerSource),
    [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }),
  };
}
