import { Ajv2020 } from 'ajv/dist/2020.js';
import addFormatsModule from 'ajv-formats';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkConstraint, compileConstraint } from './compile.ts';
import type { Constraint } from './constraint.ts';
import { GrammarError } from './grammar-error.ts';
import { schemas } from './testing/random-schema.ts';
import { accepts, automatonOf, randomText } from './testing/random-text.ts';
import { numbers } from './testing/random-numbers.ts';

const addFormats = addFormatsModule as unknown as (ajv: Ajv2020) => void;

function schema(value: unknown): Constraint {
  return { kind: 'json_schema', schema: JSON.stringify(value) };
}

function refusal(constraint: Constraint): string {
  try {
    compileConstraint(constraint);
  } catch (error) {
    if (error instanceof GrammarError) return error.message;
    throw error;
  }
  return '';
}

describe('documents written by a random hand', () => {
  it('satisfy their schema, whatever it is', () => {
    const ajv = new Ajv2020({ strict: false, allErrors: false, logger: false });
    addFormats(ajv);
    let written = 0;
    fc.assert(
      fc.property(schemas, fc.integer(), (value, seed) => {
        const reason = refusal(schema(value));
        if (reason !== '') {
          expect(reason).toMatch(
            /no document can satisfy|"propertyNames"|no number lies|beside constant objects|too complex|"multipleOf" .* together/,
          );
          return;
        }
        const validate = ajv.compile(value);
        const automaton = automatonOf(schema(value));
        const random = numbers(seed);
        for (let i = 0; i < 3; i++) {
          const text = randomText(automaton, random);
          expect(validate(JSON.parse(text)), `${text}\n${JSON.stringify(validate.errors)}`).toBe(true);
          written++;
        }
      }),
      { numRuns: 150 },
    );
    expect(written).toBeGreaterThan(200);
  });
});

describe('documents as they are usually written', () => {
  const SHOP = {
    type: 'object',
    properties: {
      id: { type: 'string', format: 'uuid' },
      price: { type: 'number', minimum: 0 },
      tags: { type: 'array', items: { type: 'string' } },
      sizes: { type: 'array', prefixItems: [{ type: 'integer' }, { type: 'integer' }], items: false, minItems: 2 },
      owner: { anyOf: [{ $ref: '#/$defs/owner' }, { type: 'null' }] },
      extra: { type: 'object' },
    },
    required: ['id', 'price', 'tags'],
    $defs: {
      owner: { type: 'object', properties: { name: { type: 'string' }, boss: { $ref: '#/$defs/owner' } }, required: ['name'] },
    },
  };
  const document = {
    id: '123e4567-e89b-12d3-a456-426614174000',
    price: 12.5,
    tags: ['naïve', '日本', 'tab\tquote"', '😀'],
    sizes: [3, 4],
    owner: { name: 'Ann', boss: { name: 'Bob' } },
    extra: { any: [1, { thing: null }], 'at all': true },
  };

  it.each([undefined, 1, 2, 4, '\t'])('are read, indented by %j', (indent) => {
    const automaton = automatonOf(schema(SHOP));
    expect(accepts(automaton, JSON.stringify(document, undefined, indent))).toBe(true);
    expect(accepts(automaton, JSON.stringify({ ...document, owner: null }, undefined, indent))).toBe(true);
    expect(accepts(automatonOf({ kind: 'json_object' }), JSON.stringify(document, undefined, indent))).toBe(true);
  });

  it('have the pattern beside a format that is only its name', () => {
    const automaton = automatonOf(schema({ type: 'string', format: 'ulid', pattern: '^[0-7][0-9A-Z]{3}$' }));
    expect([accepts(automaton, '"7ABC"'), accepts(automaton, '"8ABC"')]).toEqual([true, false]);
  });

  it('have a format as a whole, and a pattern somewhere in it', () => {
    const automaton = automatonOf(schema({ type: 'string', format: 'date', pattern: '01' }));
    expect(accepts(automaton, '"2001-12-31"')).toBe(true);
    for (const text of ['"01"', '"2022-12-31"', '"on 2001-12-31"']) expect(accepts(automaton, text)).toBe(false);
    const both = { allOf: [{ format: 'date-time' }, { format: 'hostname' }], type: 'string' };
    expect(refusal(schema(both))).toContain('no document can satisfy');
  });

  it('have multiples of the largest number that is taken', () => {
    const automaton = automatonOf(schema({ multipleOf: 1000, type: 'number' }));
    expect(['0', '-3000', '12000', '12', '500'].map((text) => accepts(automaton, text))).toEqual([
      true,
      true,
      true,
      false,
      false,
    ]);
    expect(refusal(schema({ allOf: [{ multipleOf: 59 }, { multipleOf: 30 }] }))).toContain('multiples of 1770, at most 1000');
  });

  it('are read with spaces after colons and commas', () => {
    const text = JSON.stringify({ id: document.id, price: 1, tags: ['a', 'b'] })
      .replaceAll(':', ': ')
      .replaceAll(',', ', ');
    expect(accepts(automatonOf(schema(SHOP)), text)).toBe(true);
  });

  it('never have blanks without end', () => {
    const automaton = automatonOf({ kind: 'json_object' });
    for (const blank of [' ', '\n', '\t']) expect(accepts(automaton, `{${blank.repeat(60)}}`)).toBe(false);
    expect(accepts(automaton, `{"a":\n1}`)).toBe(false);
    expect(accepts(automaton, ' {}')).toBe(false);
    expect(accepts(automaton, '{} ')).toBe(false);
  });

  it.each([
    ['an unknown property', { ...document, other: 1 }],
    ['a property that is missing', { id: document.id, price: 1 }],
    ['a price below zero', { ...document, price: -1 }],
    ['a third size', { ...document, sizes: [1, 2, 3] }],
    ['an id of another form', { ...document, id: 'x' }],
  ])('are refused with %s', (_, wrong) => {
    expect(accepts(automatonOf(schema(SHOP)), JSON.stringify(wrong))).toBe(false);
  });

  it('have strings whose escapes and characters are whole', () => {
    const automaton = automatonOf(schema({ type: 'string' }));
    for (const text of ['"\\ud83d\\ude00"', '"\\u00e9\\/\\n"', '"\u007f\u2028"'])
      expect(accepts(automaton, text), text).toBe(true);
    for (const text of ['"\\ud83d"', '"\\ude00"', '"\\ud83d\\u0041"', '"\n"', '"\\x"'])
      expect(accepts(automaton, text), text).toBe(false);
    // Half a character, a surrogate in UTF-8, a byte too many.
    for (const bytes of [[0xc3], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xc0, 0x80]]) {
      expect(automaton.accepting(automaton.read(automaton.start, Uint8Array.from([0x22, ...bytes, 0x22])))).toBe(false);
    }
  });
});

describe('numbers', () => {
  it('are read exactly when they lie within their bounds', () => {
    const value = fc.oneof(
      fc.integer({ min: -1200, max: 1200 }),
      fc.integer({ min: -12_000, max: 12_000 }).map((n) => n / 100),
    );
    const run = fc.record({
      low: value,
      high: value,
      exclusive: fc.boolean(),
      integer: fc.boolean(),
      tried: fc.array(value, { minLength: 20 }),
    });
    fc.assert(
      fc.property(run, ({ low, high, exclusive, integer, tried }) => {
        fc.pre(low + 2 < high);
        const bounds = exclusive ? { exclusiveMinimum: low, exclusiveMaximum: high } : { minimum: low, maximum: high };
        const automaton = automatonOf(schema({ type: integer ? 'integer' : 'number', ...bounds }));
        for (const number of [...tried, low, high]) {
          const within = exclusive ? number > low && number < high : number >= low && number <= high;
          const wanted = within && (!integer || Number.isInteger(number));
          expect(accepts(automaton, JSON.stringify(number)), `${number} of ${JSON.stringify(bounds)}`).toBe(wanted);
        }
      }),
      { numRuns: 60 },
    );
  });

  it.each([
    [{ type: 'number', exclusiveMaximum: 1e-7, minimum: 0 }, ['0', '0.00000009'], ['0.0000001', '-0', '-1']],
    [{ type: 'number', minimum: 1e21 }, [], ['1']],
    [{ type: 'integer', minimum: -9007199254740991, maximum: 9007199254740991 }, ['-123456789012345', '0'], ['1.0', '01', '+1']],
    [{ type: 'integer', multipleOf: 7, minimum: 100 }, ['105', '700'], ['98', '106']],
    [{ type: 'integer', format: 'int32' }, ['2147483647', '-2147483648'], ['2147483648', '-2147483649']],
    [{ type: 'number', multipleOf: 5 }, ['5', '-10', '0'], ['5.5', '3']],
    [{ type: 'number' }, ['0.5e10', '-1E-7'], ['1e999', '.5', '5.', '1e']],
  ])('of %j', (value, right, wrong) => {
    const text = refusal(schema(value));
    if (right.length === 0) return expect(text).not.toBe('');
    const automaton = automatonOf(schema(value));
    expect(right.filter((number) => !accepts(automaton, number))).toEqual([]);
    expect(wrong.filter((number) => accepts(automaton, number))).toEqual([]);
  });
});

describe('a constraint that cannot be served', () => {
  it.each([
    ['not JSON', '{', 'not JSON'],
    ['a list', '[]', 'must be an object, true or false'],
    ['an unknown type', '{"type":"objekt"}', '"type" at # must be one of'],
    [
      'a bad keyword deep inside',
      '{"properties":{"a":{"items":{"minLength":-1}}}}',
      '"minLength" at #/properties/a/items must be a whole number',
    ],
    ['not', '{"properties":{"a/b":{"not":{}}}}', '"not" at #/properties/a~1b is not supported'],
    ['if', '{"if":{},"then":{}}', '"if" at # is not supported'],
    ['patternProperties', '{"patternProperties":{"^a":{}}}', '"patternProperties" at # is not supported'],
    ['uniqueItems', '{"type":"array","uniqueItems":true}', '"uniqueItems" at # is not supported'],
    ['an unknown format', '{"type":"string","format":"isbn"}', '"format" "isbn" at # is not supported; supported are date-time'],
    ['a pattern that is none', '{"type":"string","pattern":"("}', 'no regular expression'],
    ['a fraction as multipleOf', '{"multipleOf":0.1}', '"multipleOf" 0.1 at # is not supported'],
    ['a reference to nowhere', '{"$ref":"#/$defs/a"}', '"$ref" "#/$defs/a" at # leads nowhere'],
    ['a reference elsewhere', '{"$ref":"https://example.com/a.json"}', 'must begin with "#/"'],
    ['a reference to itself', '{"$ref":"#"}', 'refers to itself with nothing in between'],
    [
      'references in a circle',
      '{"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/b"},"b":{"allOf":[{"$ref":"#/$defs/a"}]}}}',
      'refers to itself',
    ],
    ['a choice of itself', '{"anyOf":[{"$ref":"#"},{"type":"null"}]}', 'refers to itself'],
    ['no end', '{"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]}', 'no document can satisfy it'],
    ['false', 'false', 'no document can satisfy'],
    ['a contradiction', '{"allOf":[{"type":"string"},{"type":"null"}]}', 'no document can satisfy'],
    ['a length that cannot be', '{"type":"string","minLength":5,"maxLength":3}', 'no document can satisfy'],
    [
      'branches that overlap',
      '{"oneOf":[{"type":"number"},{"type":"integer"}]}',
      'branches 0 and 1 of "oneOf" at # may both hold',
    ],
    ['too many bytes', JSON.stringify({ description: 'x'.repeat(70_000) }), 'at most 65536 are taken'],
    ['too deep', `${'{"items":'.repeat(100)}{}${'}'.repeat(100)}`, 'nested deeper than 64 levels'],
    ['too many values', JSON.stringify({ enum: Array.from({ length: 6_000 }, (_, i) => i) }), 'more than 5000 values'],
    [
      'too many items to be counted',
      JSON.stringify({ items: { items: { items: {}, minItems: 9000 }, minItems: 120_000 } }),
      'too large',
    ],
    [
      'schemas that multiply',
      JSON.stringify({
        allOf: Array.from({ length: 30 }, (_, i) => ({
          anyOf: [{ properties: { [`a${i}`]: {} } }, { properties: { [`b${i}`]: {} } }],
        })),
      }),
      'more than 5000 subschemas',
    ],
    [
      'many patterns, each of them hard',
      JSON.stringify({ anyOf: Array.from({ length: 100 }, (_, i) => ({ pattern: `(a|aa){0,${900 + i}}b` })) }),
      'too complex',
    ],
    [
      'a long chain of references',
      JSON.stringify({
        $ref: '#/$defs/0',
        $defs: Object.fromEntries(Array.from({ length: 200 }, (_, i) => [i, { $ref: `#/$defs/${i + 1}` }])),
      }),
      'more than 64 references',
    ],
  ])('has a reason: %s', (_, text, reason) => {
    const start = performance.now();
    expect(refusal({ kind: 'json_schema', schema: text })).toContain(reason);
    // Nothing that is refused takes long: a router has others to serve.
    expect(performance.now() - start).toBeLessThan(5_000);
  });

  it('says whether it is wrong or only unsupported', () => {
    expect(() => checkConstraint(schema({ not: {} }), 'response_format.json_schema.schema')).toThrow(
      expect.objectContaining({
        code: 'invalid_argument',
        reason: 'unsupported_parameter',
        field: 'response_format.json_schema.schema',
      }) as Error,
    );
    expect(() => checkConstraint({ kind: 'regex', pattern: '[' }, 'guided_regex')).toThrow(
      expect.objectContaining({ code: 'invalid_argument', reason: 'bad_request', field: 'guided_regex' }) as Error,
    );
    expect(() => checkConstraint({ kind: 'regex', pattern: 'a$b' }, 'f')).toThrow(/no text matches it as a whole/);
    expect(() => checkConstraint({ kind: 'choice', choices: [] }, 'f')).toThrow(/no choice/);
  });

  it('may be recursive, deep down and sideways', () => {
    const tree = {
      type: 'object',
      properties: { kids: { type: 'array', items: { $ref: '#' } } },
      required: ['kids'],
      additionalProperties: false,
    };
    const automaton = automatonOf(schema(tree));
    const nested = '{"kids":['.repeat(300) + ']}'.repeat(300);
    expect(accepts(automaton, nested)).toBe(true);
    expect(accepts(automaton, nested.slice(0, -1))).toBe(false);
    const many = Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`p${i}`, { $ref: `#/$defs/d${i}` }]));
    const defs = Object.fromEntries(
      Array.from({ length: 300 }, (_, i) => [`d${i}`, { anyOf: [{ type: 'integer' }, { $ref: `#/$defs/d${(i + 1) % 300}` }] }]),
    );
    expect(refusal(schema({ type: 'object', properties: many, $defs: defs }))).toMatch(/refers to itself/);
  });
});
