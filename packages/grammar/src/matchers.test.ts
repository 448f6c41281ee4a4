import { Ajv2020 } from 'ajv/dist/2020.js';
import addFormatsModule from 'ajv-formats';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Constraint } from './constraint.ts';
import { GrammarError } from './grammar-error.ts';
import { Matchers } from './matchers.ts';
import { numbers } from './testing/random-numbers.ts';
import { schemas } from './testing/random-schema.ts';
import { testTokenizer, type TestTokenizer } from './testing/tokenizers.ts';
import { allows, type TokenMask } from './token-mask.ts';
import { Vocabulary } from './vocabulary.ts';

const addFormats = addFormatsModule as unknown as (ajv: Ajv2020) => void;
const OBJECT: Constraint = { kind: 'json_object' };

function allowed(mask: TokenMask, vocabSize: number): number[] {
  return Array.from({ length: vocabSize }, (_, id) => id).filter((id) => allows(mask, id));
}

/** Writes token after token, any that is allowed; undefined when it takes more than `most` of them. */
function write(
  { tokens, end }: TestTokenizer,
  matchers: Matchers,
  constraint: Constraint,
  random: () => number,
  most = 3_000,
): number[] | undefined {
  const ids: number[] = [];
  for (let mask = matchers.open(1, { constraint, endTokens: [end], tokens: [] }); ; ) {
    const choices = allowed(mask, tokens.vocabSize);
    // A hand that never ended would write for ever.
    const id = choices.includes(end) ? end : (choices[Math.floor(random() * choices.length)] as number);
    if (id === end) return ids;
    ids.push(id);
    if (ids.length > most) return undefined;
    mask = matchers.accept(1, id);
  }
}

function textOf({ tokenizer }: TestTokenizer, ids: readonly number[]): string {
  const stream = tokenizer.decodeStream();
  return ids.map((id) => stream.push(id)).join('') + stream.flush();
}

describe.each(['byte-level', 'SentencePiece'] as const)('tokens of a %s vocabulary', (kind) => {
  it('written at random give documents of any schema', async () => {
    const test = await testTokenizer(kind);
    const vocabulary = new Vocabulary(test.tokens);
    const ajv = new Ajv2020({ strict: false, logger: false });
    addFormats(ajv);
    let written = 0;
    fc.assert(
      fc.property(schemas, fc.integer(), (schema, seed) => {
        const validate = ajv.compile(schema);
        try {
          const ids = write(
            test,
            new Matchers(vocabulary),
            { kind: 'json_schema', schema: JSON.stringify(schema) },
            numbers(seed),
          );
          if (ids === undefined) return;
          const text = textOf(test, ids);
          expect(validate(JSON.parse(text)), text).toBe(true);
          written++;
        } catch (error) {
          if (!(error instanceof GrammarError)) throw error;
        }
      }),
      { numRuns: 100 },
    );
    expect(written).toBeGreaterThan(50);
  });

  it('may come next exactly when their bytes may', async () => {
    const test = await testTokenizer(kind);
    const vocabulary = new Vocabulary(test.tokens);
    const matchers = new Matchers(vocabulary);
    const random = numbers(3);
    const schema = { type: 'object', properties: { a: { type: 'string', maxLength: 300, minLength: 150 } }, required: ['a'] };
    const constraint: Constraint = { kind: 'json_schema', schema: JSON.stringify(schema) };
    const so: number[] = [];
    for (let mask = matchers.open(1, { constraint, endTokens: [test.end], tokens: [] }); so.length < 60; ) {
      const choices = allowed(mask, test.tokens.vocabSize);
      // Kept masks are shared by places that are far from both bounds: another automaton must agree.
      const fresh = new Matchers(vocabulary).open(1, { constraint, endTokens: [test.end], tokens: so });
      expect(allowed(fresh, test.tokens.vocabSize)).toEqual(choices);
      const id = choices[Math.floor(random() * choices.length)] as number;
      if (id === test.end) break;
      so.push(id);
      mask = matchers.accept(1, id);
    }
    expect(so.length).toBeGreaterThan(5);
  });

  it('never are special ones, but for the one that ends a complete document', async () => {
    const test = await testTokenizer(kind);
    const matchers = new Matchers(new Vocabulary(test.tokens));
    const ids = write(test, matchers, OBJECT, numbers(8)) as number[];
    expect(ids.filter((id) => test.tokenizer.isAdded(id))).toEqual([]);
    for (let length = 0; length <= ids.length; length++) {
      const mask = matchers.open(2, { constraint: OBJECT, endTokens: [test.end], tokens: ids.slice(0, length) });
      expect(allows(mask, test.end)).toBe(length === ids.length);
    }
  });

  it('go on from any beginning as if it had been written here', async () => {
    const test = await testTokenizer(kind);
    const vocabulary = new Vocabulary(test.tokens);
    const ids = write(test, new Matchers(vocabulary), OBJECT, numbers(21)) as number[];
    const matchers = new Matchers(vocabulary);
    matchers.open(1, { constraint: OBJECT, endTokens: [test.end], tokens: [] });
    ids.forEach((id, i) => {
      const next = matchers.accept(1, id);
      expect(
        new Matchers(vocabulary).open(1, { constraint: OBJECT, endTokens: [test.end], tokens: ids.slice(0, i + 1) }),
      ).toEqual(next);
    });
  });
});

describe('a matcher', () => {
  it('spells exact text around a document with added tokens too, and the document without them', async () => {
    const test = await testTokenizer('byte-level');
    const matchers = new Matchers(new Vocabulary(test.tokens));
    const constraint: Constraint = { ...OBJECT, prefix: '<|user|>', suffix: '<|assistant|>' };
    const [user, assistant] = ['<|user|>', '<|assistant|>'].map((text) => test.tokenizer.encodeRendered(text)[0] as number);
    const [open, close] = ['{', '}'].map((text) => test.tokenizer.encodeRendered(text)[0] as number);
    let mask = matchers.open(1, { constraint, endTokens: [test.end], tokens: [] });
    expect(allows(mask, user!)).toBe(true);
    expect(allows(mask, assistant!)).toBe(false);
    for (const id of [user!, open!, close!]) mask = matchers.accept(1, id);
    expect(allows(mask, user!)).toBe(false);
    expect(allows(mask, test.end)).toBe(false);
    expect(allows(mask, assistant!)).toBe(true);
    mask = matchers.accept(1, assistant!);
    expect(allowed(mask, test.tokens.vocabSize)).toEqual([test.end]);
  });

  it.each([true, false])('lets a model think before, in any tokens but the last one (already begun: %j)', async (begun) => {
    const test = await testTokenizer('byte-level');
    const matchers = new Matchers(new Vocabulary(test.tokens));
    const constraint: Constraint = { ...OBJECT, thinking: { begin: '<|user|>', end: '<|assistant|>', begun } };
    const [begin, end] = ['<|user|>', '<|assistant|>'].map((text) => test.tokenizer.encodeRendered(text)[0] as number);
    const spell = (text: string): number[] => test.tokenizer.encodeRendered(text);
    let mask = matchers.open(1, { constraint, endTokens: [test.end], tokens: [] });
    expect([allows(mask, begin!), allows(mask, spell('{')[0]!), allows(mask, spell('H')[0]!)]).toEqual([true, true, begun]);
    const thought = [...(begun ? [] : [begin!]), ...spell('Hm, {"no": 1} <|assist it is'), begin!, end!];
    for (const id of thought) {
      expect(allows(mask, id)).toBe(true);
      expect(allows(mask, test.end)).toBe(false);
      mask = matchers.accept(1, id);
    }
    expect([allows(mask, spell('H')[0]!), allows(mask, end!), allows(mask, test.end)]).toEqual([false, false, false]);
    for (const id of spell('\n\n{}')) mask = matchers.accept(1, id);
    expect(allowed(mask, test.tokens.vocabSize)).toEqual([test.end]);
    // The mark counts as well when it is spelled.
    const spelled = [...(begun ? [] : [begin!]), ...Buffer.from('<<|assistant|>{}').toString().split('').flatMap(spell)];
    mask = matchers.open(2, { constraint, endTokens: [test.end], tokens: spelled });
    expect(allowed(mask, test.tokens.vocabSize)).toEqual([test.end]);
  });

  it('refuses a beginning that the constraint does not allow', async () => {
    const test = await testTokenizer('byte-level');
    const matchers = new Matchers(new Vocabulary(test.tokens));
    const tokens = test.tokenizer.encodeRendered('Hello');
    expect(() => matchers.open(1, { constraint: OBJECT, endTokens: [test.end], tokens })).toThrow(/no beginning of what/);
  });

  it('refuses a vocabulary that has no token for some character', async () => {
    const { tokens, end } = await testTokenizer('byte-level');
    const brace = '{'.charCodeAt(0);
    const lacking = { ...tokens, added: tokens.added.slice() };
    for (let id = 0; id < tokens.vocabSize; id++) {
      const [from, to] = [id === 0 ? 0 : (tokens.ends[id - 1] as number), tokens.ends[id] as number];
      if (to - from === 1 && tokens.bytes[from] === brace) lacking.added[id] = 1;
    }
    const matchers = new Matchers(new Vocabulary(lacking));
    expect(() => matchers.open(1, { constraint: OBJECT, endTokens: [end], tokens: [] })).toThrow(
      /has no tokens for the characters "\{"/,
    );
  });
});
