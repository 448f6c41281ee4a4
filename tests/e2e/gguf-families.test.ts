/**
 * Files as people have them (Llama 3.2, Qwen 2.5, Qwen 3, DeepSeek-V2-Lite; weights are random), served by `up --model FILE` and asked by
 * the openai client. llama.cpp is the reference: its tokens of texts and of a chat, and its greedy answer from the same numbers in
 * float32. Published layer counts, vocabularies and DeepSeek's experts are for CAUSEWAY_TEST_FULL=1.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { openCheckpoint } from '@causeway/model-files';
import OpenAI from 'openai';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Extent, FAMILIES, type Family, familyVocabulary, fullExtent, smallExtent, writeFamily } from '../gguf/families.ts';
import { CONTENT, TEXTS } from '../gguf/prompts.ts';
import { type FamilyReference, REFERENCES, sha256Of } from '../gguf/references.ts';
import { CommandFolder } from './command-folder.ts';

/** KV in f32, as in the reference; the built-in topology's chips keep bf16. */
const MINIMAL = ['--topology', join(import.meta.dirname, '../../topologies/minimal.yaml')];
const READY = /^ready {2}HTTP (\S+)\/v1/;
const FULL = process.env['CAUSEWAY_TEST_FULL'] === '1';
const references = JSON.parse(readFileSync(REFERENCES, 'utf8')) as Record<string, FamilyReference>;

/** Largest difference of a log-probability, in nats. Through 27 layers, most of which choose experts, roundings grow. */
const tolerance = ({ sizes }: Family): number => (sizes.moe === undefined ? 1e-3 : 0.02);

let at: CommandFolder;
beforeEach(() => {
  at = new CommandFolder();
});
afterEach(() => at[Symbol.asyncDispose]());

interface Served {
  url: string;
  client: OpenAI;
  model: string;
}

async function serve(family: Family, extent: Extent, reference: FamilyReference, flags: readonly string[]): Promise<Served> {
  const file = join(at.path, `${family.name}.gguf`);
  writeFamily(file, family, extent);
  expect(await sha256Of(file)).toBe(reference.sha256);
  using checkpoint = await openCheckpoint(file);
  expect(checkpoint.config).toMatchObject({ layers: extent.layers, heads: family.sizes.heads });
  const up = at.start(['up', '--no-prompt', ...flags, '--model', file]);
  const ready = await up.waitForLine(READY, 540_000);
  const [, url = ''] = READY.exec(ready) ?? [];
  return { url, client: new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 }), model: family.name };
}

async function tokenize({ url, model }: Served, what: object): Promise<number[]> {
  const body = JSON.stringify({ model, ...what });
  const response = await fetch(`${url}/tokenize`, { method: 'POST', headers: { 'content-type': 'application/json' }, body });
  return ((await response.json()) as { tokens: number[] }).tokens;
}

/** Tokens of texts and of the chat as llama.cpp has them. */
async function sameTokens(served: Served, { texts, chat }: FamilyReference): Promise<void> {
  for (const [i, prompt] of TEXTS.entries())
    expect(await tokenize(served, { prompt, add_special_tokens: false }), prompt).toEqual(texts[i]);
  expect(await tokenize(served, { messages: [{ role: 'user', content: CONTENT }] })).toEqual(chat);
}

/**
 * The greedy answer as llama.cpp has it, by tokens and log-probabilities, prefilled in one worker and decoded in the other. Gives how many
 * tokens could be compared: the first that the reference's margin does not decide within `limit` (nats) ends it.
 */
async function sameAnswer(
  served: Served,
  family: Family,
  extent: Extent,
  { exact, chat }: FamilyReference,
  limit: number,
): Promise<number> {
  const request = {
    model: served.model,
    messages: [{ role: 'user' as const, content: CONTENT }],
    max_tokens: exact.length,
    temperature: 0,
    logprobs: true,
    top_logprobs: 5,
    ignore_eos: true,
    causeway: { placement: 'disaggregated' },
  };
  const { choices, usage } = await served.client.chat.completions.create(request);
  expect(usage).toMatchObject({ prompt_tokens: chat.length, completion_tokens: exact.length, causeway: { outcome: 'used' } });
  const found = choices[0]?.logprobs?.content ?? [];
  expect(found).toHaveLength(exact.length);
  const { bytes } = familyVocabulary(family, extent);
  for (const [i, { id, top }] of exact.entries()) {
    if ((top[0]?.[1] ?? 0) - (top[1]?.[1] ?? 0) <= 2 * limit) return i;
    expect(found[i]?.bytes, `token ${i}`).toEqual(bytes(id));
    for (const [rank, [, logprob]] of top.entries())
      expect(Math.abs((found[i]?.top_logprobs[rank]?.logprob ?? 0) - logprob), `token ${i}, rank ${rank}`).toBeLessThan(limit);
  }
  return exact.length;
}

async function check(family: Family, extent: Extent, reference: FamilyReference | undefined): Promise<void> {
  if (reference === undefined) throw new Error(`references.json lacks ${family.name}`);
  const served = await serve(family, extent, reference, MINIMAL);
  await sameTokens(served, reference);
  expect(await sameAnswer(served, family, extent, reference, tolerance(family))).toBe(reference.exact.length);
}

const fullReference = (name: string): FamilyReference | undefined => references[`${name}, full`];

/** Of 27 layers: too slow for every run. */
const slow = ({ sizes }: Family): boolean => sizes.moe !== undefined;

describe('a GGUF file of a published shape, by up --model', () => {
  test.each(FAMILIES.filter((family) => !slow(family)))(
    '$name answers as llama.cpp does',
    (family) => check(family, smallExtent(family), references[family.name]),
    600_000,
  );
  test('by the topology that up has without one, whose KV is of 16 bits: the same within what that rounds', async () => {
    const family = FAMILIES.find(({ name }) => name.startsWith('Qwen3'));
    const reference = family && references[family.name];
    if (family === undefined || reference === undefined) throw new Error('references.json lacks Qwen 3');
    const extent = smallExtent(family);
    const served = await serve(family, extent, reference, []);
    expect(await sameAnswer(served, family, extent, reference, 0.1)).toBe(6);
  }, 600_000);
  test.skipIf(!FULL).each(FAMILIES.filter(slow))(
    '$name answers as llama.cpp does',
    (family) => check(family, smallExtent(family), references[family.name]),
    600_000,
  );
  test.skipIf(!FULL).each(FAMILIES.filter(({ name }) => fullReference(name) !== undefined))(
    '$name in its full size answers as llama.cpp does',
    (family) => check(family, fullExtent(family), fullReference(family.name)),
    900_000,
  );
});
