import { type Constraint, constraintKey, type Thinking } from './constraint.ts';
import { GrammarError, refuse } from './grammar-error.ts';
import { JsonRules } from './json.ts';
import { GRAMMAR_LIMITS } from './limits.ts';
import { finish } from './machine/analyse.ts';
import { dfaPiece } from './machine/chars.ts';
import { Machine, type Piece } from './machine/machine.ts';
import { anyByte, call, freeUntil, nothing, oneOfTexts, optional, sequence, text } from './machine/pieces.ts';
import { isEmpty } from './regex/char-dfa.ts';
import { patternDfa } from './regex/regex-dfa.ts';
import { compileSchema } from './schema/compile-schema.ts';
import { beginWork } from './work.ts';

/** A constraint as an automaton: `root` is the rule of whole texts. */
export interface CompiledConstraint {
  machine: Machine;
  root: number;
}

/**
 * Compiles a constraint: the same automaton, or the same refusal, everywhere. Takes up to some hundred milliseconds at the limits:
 * off event loops.
 * @throws GrammarError saying what is wrong, where
 */
export function compileConstraint(constraint: Constraint): CompiledConstraint {
  const bytes = Buffer.byteLength(constraintKey(constraint));
  if (bytes > GRAMMAR_LIMITS.bytes) refuse(`it has ${bytes} bytes; at most ${GRAMMAR_LIMITS.bytes} are taken`);
  beginWork();
  const machine = new Machine();
  const root = machine.declare();
  const { prefix = '', suffix = '' } = constraint;
  const around = { literal: true };
  const held = sequence(text(prefix, around), body(constraint, machine), text(suffix, around));
  machine.build(root, sequence(thinking(constraint.thinking), held));
  finish(machine, root);
  return { machine, root };
}

/** Constraints found good lately: clients ask with the same one over and over. */
const good = new Set<string>();
const REMEMBERED = 64;

/**
 * Refuses what can't be compiled, as the value of a request's field. Takes as long as compiling, the first time.
 * @throws ServiceError `invalid_argument` with reason `bad_request` or `unsupported_parameter`, saying what is wrong, where
 */
export function checkConstraint(constraint: Constraint, field: string): void {
  const key = constraintKey(constraint);
  if (good.has(key)) return;
  try {
    compileConstraint(constraint);
  } catch (error) {
    throw error instanceof GrammarError ? error.toServiceError(field) : error;
  }
  if (good.size >= REMEMBERED) good.clear();
  good.add(key);
}

/** White space between reasoning and answer. */
const MOST_SPACE = 8;

function thinking(marks: Thinking | undefined): Piece {
  if (marks === undefined) return nothing;
  const space = optional(anyByte([0x20, 0x20], [0x9, 0xa], [0xd, 0xd]));
  const rest = sequence(freeUntil(marks.end), ...Array.from({ length: MOST_SPACE }, () => space));
  return marks.begun ? rest : optional(sequence(text(marks.begin, { literal: true }), rest));
}

function body(constraint: Constraint, machine: Machine): Piece {
  switch (constraint.kind) {
    case 'json_object':
      return call(new JsonRules(machine).object);
    case 'json_schema':
      return call(compileSchema(machine, parseSchema(constraint.schema)));
    case 'regex': {
      const dfa = patternDfa(constraint.pattern);
      if (isEmpty(dfa)) refuse('no text matches it as a whole');
      return dfaPiece(dfa, 'raw');
    }
    case 'choice':
      if (constraint.choices.length === 0) refuse('it has no choice');
      return oneOfTexts(constraint.choices);
  }
}

function parseSchema(schema: string): unknown {
  refuseDeep(schema);
  try {
    return JSON.parse(schema) as unknown;
  } catch {
    return refuse('the schema is not JSON');
  }
}

/** Before anything recursive reads it. */
function refuseDeep(json: string): void {
  let depth = 0;
  for (let i = 0, inString = false; i < json.length; i++) {
    const character = json[i];
    if (inString) {
      if (character === '\\') i++;
      else if (character === '"') inString = false;
    } else if (character === '"') inString = true;
    else if (character === '{' || character === '[') depth++;
    else if (character === '}' || character === ']') depth--;
    if (depth > GRAMMAR_LIMITS.depth) refuse(`it is nested deeper than ${GRAMMAR_LIMITS.depth} levels`);
  }
}
