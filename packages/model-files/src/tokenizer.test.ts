import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { scratch, refusal, TINY_MOE } from './testing/scratch.ts';
import { loadTokenizer } from './tokenizer.ts';
import { huggingFaceTokenizerSource, type TokenizerSource } from './tokenizer-source.ts';

const tinyMoe = huggingFaceTokenizerSource(TINY_MOE)!;
const tokenizer = loadTokenizer(tinyMoe);
const message = { role: 'user', content: 'hi' };
const withTemplate = (chatTemplate: string | undefined) => loadTokenizer({ ...tinyMoe, chatTemplate });

/** The same JSON with every object's keys in reverse order. */
function reversed(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(reversed);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .reverse()
      .map(([key, field]) => [key, reversed(field)]),
  );
}

describe('loadTokenizer', () => {
  it('gives every text back, whatever is in it', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 200 }), (text) => {
        const ids = tokenizer.encode(text);
        expect(ids.every((id) => id >= 0 && id < tokenizer.vocabSize)).toBe(true);
        expect(tokenizer.decode(ids)).toBe(text);
      }),
    );
  });

  it('takes halves of surrogate pairs as replacement characters', () => {
    expect(tokenizer.decode(tokenizer.encode('a\ud800b'))).toBe('a\u{fffd}b');
  });

  it('takes each digit alone', () => {
    expect(tokenizer.encode('90210').map((id) => tokenizer.decode([id]))).toEqual(['9', '0', '2', '1', '0']);
  });

  it('does not double the leading token that a text brings along', () => {
    const added = loadTokenizer({ ...tinyMoe, config: { ...tinyMoe.config, add_bos_token: true } });
    const [bos] = added.encode('');
    expect(added.encode('hi')).toEqual([bos, ...tokenizer.encode('hi')]);
    expect(added.encode('<|bos|>hi')).toEqual(added.encode('hi'));
    const templated = loadTokenizer({
      ...tinyMoe,
      tokenizer: {
        ...tinyMoe.tokenizer,
        post_processor: {
          type: 'TemplateProcessing',
          single: [{ SpecialToken: { id: '<|bos|>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
          pair: [],
          special_tokens: { '<|bos|>': { id: '<|bos|>', ids: [bos], tokens: ['<|bos|>'] } },
        },
      },
    });
    expect(templated.encode('hi')).toEqual([bos, ...tokenizer.encode('hi')]);
    expect(templated.encode('<|bos|>hi')).toEqual(templated.encode('hi'));
    expect(templated.encodeChat([message])).toEqual(tokenizer.encodeChat([message]));
  });

  it('decodes nothing to nothing', () => {
    expect([tokenizer.decode([]), tokenizer.decode([2]), tokenizer.encode('')]).toEqual(['', '', []]);
  });

  it('refuses definitions that cannot be used', async () => {
    const broken: Partial<TokenizerSource>[] = [
      { tokenizer: {} },
      { tokenizer: { ...tinyMoe.tokenizer, model: { type: 'Mystery' } } },
      { tokenizer: { ...tinyMoe.tokenizer, added_tokens: 7 } },
      { chatTemplate: '{% for %}' },
    ];
    for (const part of broken) {
      expect((await refusal(() => loadTokenizer({ ...tinyMoe, ...part }))).reason).toBe('unsupported_format');
    }
  });
});

describe('chat templates', () => {
  it('open the answer unless told otherwise, and read further variables', () => {
    expect(tokenizer.renderChat([message])).toBe('<|bos|><|user|>hi<|end|><|assistant|>');
    expect(tokenizer.renderChat([message], { addGenerationPrompt: false })).toBe('<|bos|><|user|>hi<|end|>');
    const thinking = withTemplate('{% if thinking %}think {% endif %}{{ messages[0].content }}');
    expect(thinking.renderChat([message], { variables: { thinking: true } })).toBe('think hi');
  });

  it('say why they refuse messages', async () => {
    const strict = withTemplate("{{ raise_exception('roles must alternate') }}");
    const error = await refusal(() => strict.encodeChat([message]));
    expect(error).toMatchObject({ code: 'invalid_argument', reason: 'bad_request', field: 'messages' });
    expect(error.message).toContain('roles must alternate');
    expect((await refusal(() => withTemplate('{{ nothing.at.all() }}').renderChat([message]))).reason).toBe('bad_request');
  });

  it('are missed by name', async () => {
    const without = withTemplate(undefined);
    expect(without.hasChatTemplate).toBe(false);
    expect((await refusal(() => without.renderChat([message]))).message).toContain('no chat template');
  });

  it('come from their own file, or from tokenizer_config.json in either form', () => {
    const read = (files: Record<string, string | object>) => {
      using dir = scratch();
      for (const [name, content] of Object.entries({ 'tokenizer.json': tinyMoe.tokenizer, ...files })) dir.write(name, content);
      return huggingFaceTokenizerSource(dir.path)?.chatTemplate;
    };
    const named = [
      { name: 'tool_use', template: 't' },
      { name: 'default', template: 'd' },
    ];
    expect(read({})).toBeUndefined();
    expect(read({ 'tokenizer_config.json': { chat_template: 'c' } })).toBe('c');
    expect(read({ 'tokenizer_config.json': { chat_template: named } })).toBe('d');
    expect(read({ 'tokenizer_config.json': { chat_template: 'c' }, 'chat_template.jinja': 'j' })).toBe('j');
  });
});

describe('the hash of a tokenizer', () => {
  const hash = (source: TokenizerSource) => loadTokenizer(source).hash;
  const changed = (fields: object) => hash({ ...tinyMoe, tokenizer: { ...tinyMoe.tokenizer, ...fields } });
  const model = tinyMoe.tokenizer.model as { merges: unknown[]; vocab: Record<string, number> };

  it('does not depend on how its files are written', () => {
    expect(tokenizer.hash).toMatch(/^[0-9a-f]{64}$/);
    expect(hash(reversed(tinyMoe) as TokenizerSource)).toBe(tokenizer.hash);
    const pairs = model.merges.map((merge) => (typeof merge === 'string' ? merge.split(' ') : merge));
    const strings = model.merges.map((merge) => (Array.isArray(merge) ? merge.join(' ') : merge));
    expect(changed({ model: { ...model, merges: pairs } })).toBe(tokenizer.hash);
    expect(changed({ model: { ...model, merges: strings } })).toBe(tokenizer.hash);
    expect(changed({ version: '9', truncation: { max_length: 7 } })).toBe(tokenizer.hash);
    expect(hash({ ...tinyMoe, config: { ...tinyMoe.config, name_or_path: 'elsewhere' }, chatTemplate: 'x' })).toBe(
      tokenizer.hash,
    );
  });

  it('changes with whatever changes ids', () => {
    const swapped = Object.entries(model.vocab).map(([token, id]) => [token, id === 300 ? 301 : id === 301 ? 300 : id]);
    const hashes = [
      tokenizer.hash,
      changed({ model: { ...model, vocab: Object.fromEntries(swapped) } }),
      changed({ model: { ...model, merges: model.merges.toReversed() } }),
      changed({ pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true } }),
      changed({ added_tokens: (tinyMoe.tokenizer.added_tokens as unknown[]).slice(1) }),
      hash({ ...tinyMoe, config: { ...tinyMoe.config, add_bos_token: true } }),
    ];
    expect(new Set(hashes).size).toBe(hashes.length);
  });
});
