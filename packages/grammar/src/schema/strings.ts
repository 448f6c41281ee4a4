import { unsupported } from '../grammar-error.ts';
import { GRAMMAR_LIMITS } from '../limits.ts';
import { dfaPiece } from '../machine/chars.ts';
import type { Piece } from '../machine/machine.ts';
import { repeat, sequence, text } from '../machine/pieces.ts';
import type { JsonRules } from '../json.ts';
import { type CharDfa, intersection, lengthDfa } from '../regex/char-dfa.ts';
import { patternDfa, patternWithin } from '../regex/regex-dfa.ts';
import { FORMATS, FREE_FORMATS } from './formats.ts';
import { keyword, type SchemaNode } from './node.ts';

interface StringRules {
  min: number;
  max: number;
  /** They need only be found in the text. */
  patterns: readonly string[];
  /** Each is the whole text. */
  formats: readonly string[];
}

/** @throws GrammarError for a format that is not known. */
function stringRules(node: SchemaNode): StringRules {
  const formats = node.parts.flatMap(({ schema, path }) => {
    const format = schema['format'] as string | undefined;
    const pattern = format !== undefined && Object.hasOwn(FORMATS, format) ? FORMATS[format] : undefined;
    if (pattern !== undefined) return [pattern];
    // A name for the pattern beside it, as generators of schemas write.
    if (format === undefined || schema['pattern'] !== undefined || FREE_FORMATS.includes(format)) return [];
    const known = Object.keys(FORMATS).join(', ');
    return unsupported(
      `"format" ${JSON.stringify(format.slice(0, 60))} at ${path} is not supported; supported are ${known}, and any beside a "pattern"`,
    );
  });
  return {
    min: Math.max(0, ...keyword<number>(node, 'minLength')),
    max: Math.min(Number.POSITIVE_INFINITY, ...keyword<number>(node, 'maxLength')),
    patterns: keyword<string>(node, 'pattern'),
    formats,
  };
}

/** Strings as the node wants them, with their quotes. */
export function stringPiece(node: SchemaNode, json: JsonRules): Piece {
  const { min, max, patterns, formats } = stringRules(node);
  if (patterns.length + formats.length > 0) return quoted(stringDfa(node) as CharDfa);
  if (min === 0 && max === Number.POSITIVE_INFINITY) return json.string;
  return sequence(text('"'), repeat(json.characterRule, min, countedMax(max, GRAMMAR_LIMITS.counted)), text('"'));
}

/** A string that the automaton reads. */
export function quoted(dfa: CharDfa): Piece {
  return sequence(text('"'), dfaPiece(dfa, 'json'), text('"'));
}

/** The same as an automaton over characters; undefined: any string. */
export function stringDfa(node: SchemaNode): CharDfa | undefined {
  const { min, max, patterns, formats } = stringRules(node);
  const expressions = [...formats, ...patterns];
  const counted = Number.isFinite(max) && expressions.length > 0 ? countedMax(max, Math.max(min, countable(expressions))) : max;
  const length = min === 0 && counted === Number.POSITIVE_INFINITY ? undefined : lengthDfa(min, counted);
  const formatted = formats.reduce<CharDfa | undefined>((dfa, format) => within(dfa, patternDfa(format)), length);
  return patterns.reduce<CharDfa | undefined>((dfa, pattern) => patternWithin(pattern, dfa), formatted);
}

/** Characters that can be counted beside the patterns: each of their states is there once for each length. */
function countable(patterns: readonly string[]): number {
  const states = patterns.reduce((product, pattern) => product * patternDfa(pattern).accept.length, 1);
  const { countedPattern, patternStates } = GRAMMAR_LIMITS;
  return Math.min(countedPattern, Math.max(100, Math.floor(patternStates / 2 / states)));
}

/** Strings that both read; undefined reads any. */
export function within(dfa: CharDfa | undefined, other: CharDfa): CharDfa {
  return dfa === undefined ? other : intersection(dfa, other);
}

/** A bound as large as this is not worth its states: documents are held to a smaller one. */
export function countedMax(max: number, limit: number): number {
  return Number.isFinite(max) ? Math.min(max, limit) : max;
}
