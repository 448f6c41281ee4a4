import { Ajv2020 } from 'ajv/dist/2020.js';
import addFormatsModule from 'ajv-formats';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compileConstraint } from './compile.ts';
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
          expect(reason).toMatch(/no document can satisfy|"propertyNames"|no number lies|beside constant objects/);
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
