import { unsupported } from '../grammar-error.ts';
import { keyword, type Members, membersOf, type SchemaNode, type SchemaReader, statedTypes, typesOf } from './node.ts';

/** A branch of `oneOf`: with all that holds beside it, as it is written, and alone, as others are checked against it. */
export interface Branch {
  written: SchemaNode | undefined;
  alone: SchemaNode | undefined;
}

/**
 * Makes sure that no value that is written for one branch of a `oneOf` can satisfy another one: otherwise a document might satisfy two.
 * @throws GrammarError when that can't be seen from types, constants and required properties
 */
export function requireDisjoint(branches: readonly Branch[], reader: SchemaReader, path: string): void {
  branches.forEach(({ written }, i) => {
    branches.forEach(({ alone }, j) => {
      if (i === j || written === undefined || alone === undefined || fails(written, alone, reader, 0)) return;
      unsupported(
        `branches ${i} and ${j} of "oneOf" at ${path} may both hold for one value: use "anyOf", or a property that both require with constants that differ`,
      );
    });
  });
}

/** Nesting of properties that is looked into. */
const MAX_DEPTH = 2;

/** Every value written for `a` fails `b`. False: that can't be seen. */
function fails(a: SchemaNode, b: SchemaNode, reader: SchemaReader, depth: number): boolean {
  const [mine, theirs] = [valuesOf(a), valuesOf(b)];
  if (mine !== undefined && theirs !== undefined && disjoint(mine, theirs)) return true;
  const branching = a.parts.some(({ schema }) => schema['anyOf'] !== undefined || schema['oneOf'] !== undefined);
  const types = branching ? statedTypes(a) : typesOf(a);
  const shared = types.filter((type) => overlaps(type, statedTypes(b)));
  if (shared.length === 0) return true;
  if (shared.length > 1 || shared[0] !== 'object' || depth >= MAX_DEPTH) return false;
  return objectFails(membersOf(a), membersOf(b), !branching, reader, depth);
}

/** `whole`: nothing else adds properties to what is written. */
function objectFails(mine: Members, theirs: Members, whole: boolean, reader: SchemaReader, depth: number): boolean {
  if (whole && mine.others === undefined && [...theirs.required].some((name) => !mine.names.includes(name))) return true;
  return [...mine.required].some((name) => {
    const other = theirs.property(name);
    if (other.length === 0) return false;
    const [left, right] = [reader.node(mine.property(name)), reader.node(other)];
    return right === undefined || (left !== undefined && fails(left, right, reader, depth + 1));
  });
}

function overlaps(type: string, others: readonly string[]): boolean {
  return others.some((other) => other === type || (isNumber(other) && isNumber(type)));
}

function isNumber(type: string): boolean {
  return type === 'number' || type === 'integer';
}

/** Values that a node is limited to, as JSON texts. */
export function valuesOf(node: SchemaNode): Map<string, unknown> | undefined {
  const lists = [
    ...keyword<readonly unknown[]>(node, 'enum'),
    // `const: null` is a constant too.
    ...node.parts.filter(({ schema }) => 'const' in schema).map(({ schema }) => [schema['const']]),
  ].map((values) => new Map(values.map((value) => [JSON.stringify(value), value])));
  const [first, ...rest] = lists;
  if (first === undefined) return undefined;
  return new Map([...first].filter(([text]) => rest.every((values) => values.has(text))));
}

function disjoint(a: ReadonlyMap<string, unknown>, b: ReadonlyMap<string, unknown>): boolean {
  return [...a.keys()].every((text) => !b.has(text));
}
