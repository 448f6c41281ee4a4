import { refuse, unsupported } from '../grammar-error.ts';
import { JsonRules } from '../json.ts';
import { GRAMMAR_LIMITS } from '../limits.ts';
import { dfaPiece } from '../machine/chars.ts';
import type { Machine, Piece } from '../machine/machine.ts';
import { call, either, oneOfTexts, repeat, sequence, text } from '../machine/pieces.ts';
import { allBut, type CharDfa, matches } from '../regex/char-dfa.ts';
import type { TypeName } from './keywords.ts';
import { type Found, keyword, membersOf, nodeOf, placeOf, type Part, SchemaReader, type SchemaNode, typesOf } from './node.ts';
import { boundsOf } from './bounds.ts';
import { numberDfa } from './numbers.ts';
import { requireDisjoint, valuesOf } from './one-of.ts';
import { countedMax, quoted, stringDfa, stringPiece, within } from './strings.ts';

/** Nothing satisfies it: a way that leads nowhere. */
const impossible: Piece = (machine) => machine.state();

/**
 * Adds a JSON Schema (draft 2020-12; 7 where it differs) to a machine; gives the rule of the documents that satisfy it. They are the
 * usual ones rather than all: properties in the schema's order, no others unless the schema names them or `additionalProperties`.
 * @throws GrammarError naming keyword and place
 */
export function compileSchema(machine: Machine, schema: unknown): number {
  const compiler = new SchemaCompiler(machine, new SchemaReader(schema));
  return compiler.compile({ schema, path: '#' });
}

class SchemaCompiler {
  readonly #machine: Machine;
  readonly #reader: SchemaReader;
  readonly #json: JsonRules;
  readonly #rules = new Map<string, number>();
  /** Rules that have been called but not built: built one after another, so that deep schemas need no deep stack. */
  readonly #unbuilt: { rule: number; node: SchemaNode }[] = [];
  #enumValues = 0;

  constructor(machine: Machine, reader: SchemaReader) {
    this.#machine = machine;
    this.#reader = reader;
    this.#json = new JsonRules(machine);
  }

  compile(root: Found): number {
    const node = this.#reader.node([root]);
    if (node === undefined) return refuse('no document can satisfy the schema false');
    const rule = this.#rule(node);
    for (let next = this.#unbuilt.pop(); next !== undefined; next = this.#unbuilt.pop()) {
      this.#machine.build(next.rule, this.#value(next.node));
    }
    return rule;
  }

  /** A value that satisfies all of these. */
  #schema(found: readonly Found[], parts: readonly Part[] = []): Piece {
    const node = this.#reader.node(found, parts);
    return node === undefined ? impossible : call(this.#rule(node));
  }

  #rule(node: SchemaNode): number {
    const known = node.parts.length === 0 ? this.#json.value : this.#rules.get(node.key);
    if (known !== undefined) return known;
    const rule = this.#machine.declare();
    this.#rules.set(node.key, rule);
    this.#unbuilt.push({ rule, node });
    return rule;
  }

  #value(node: SchemaNode): Piece {
    const branches = this.#branches(node);
    if (branches !== undefined) return either(...branches);
    const values = valuesOf(node);
    if (values !== undefined) return this.#constants(node, values);
    return either(...typesOf(node).map((type) => this.#typed(node, type)));
  }

  /** The first `anyOf` or `oneOf` taken apart: each branch with all the rest. */
  #branches(node: SchemaNode): Piece[] | undefined {
    for (const name of ['anyOf', 'oneOf'] as const) {
      const part = node.parts.find(({ schema }) => schema[name] !== undefined);
      if (part === undefined) continue;
      const { [name]: list, ...rest } = part.schema;
      // A part that said nothing else is left out: the branches of a chain of choices are the same nodes wherever they are met.
      const others = node.parts
        .map((other) => (other === part ? { schema: rest, path: `${part.path}/(${name})` } : other))
        .filter(({ schema }) => Object.keys(schema).length > 0);
      const branches = (list as readonly unknown[]).map((schema, i): Found => ({ schema, path: `${part.path}/${name}/${i}` }));
      if (name === 'oneOf') {
        requireDisjoint(
          branches.map((branch) => ({ written: this.#reader.node([branch], others), alone: this.#reader.node([branch]) })),
          this.#reader,
          part.path,
        );
      }
      return branches.map((branch) => this.#schema([branch], others));
    }
    return undefined;
  }

  #constants(node: SchemaNode, values: ReadonlyMap<string, unknown>): Piece {
    this.#enumValues += values.size;
    if (this.#enumValues > GRAMMAR_LIMITS.enumValues) {
      refuse(`it is too large: its "enum" lists have more than ${GRAMMAR_LIMITS.enumValues} values`);
    }
    const types = typesOf(nodeOf(node.parts.map(({ schema, path }) => ({ schema: { type: schema['type'] }, path }))));
    const fits = [...values].filter(([, value]) => this.#fits(node, value, types));
    return oneOfTexts(fits.map(([json]) => json));
  }

  /** A constant satisfies what stands beside it. */
  #fits(node: SchemaNode, value: unknown, types: readonly TypeName[]): boolean {
    const type = typeOf(value);
    if (!types.includes(type) && !(type === 'integer' && types.includes('number'))) return false;
    if (typeof value === 'string') {
      const dfa = stringDfa(node);
      return dfa === undefined || matches(dfa, value);
    }
    if (typeof value === 'number') {
      const { low, high, multipleOf } = boundsOf(node);
      if (low !== undefined && !(low.exclusive ? value > low.value : value >= low.value)) return false;
      if (high !== undefined && !(high.exclusive ? value < high.value : value <= high.value)) return false;
      return multipleOf === 1 || value % multipleOf === 0;
    }
    const beside = ['properties', 'required', 'additionalProperties', 'items', 'prefixItems', 'minItems', 'maxItems'];
    const found = beside.find((name) => keyword(node, name).length > 0);
    if (typeof value === 'object' && value !== null && found !== undefined) {
      unsupported(`"${found}" beside constant objects or lists at ${placeOf(node)} is not supported`);
    }
    return true;
  }

  #typed(node: SchemaNode, type: TypeName): Piece {
    switch (type) {
      case 'object':
        return this.#object(node);
      case 'array':
        return this.#array(node);
      case 'string':
        return stringPiece(node, this.#json);
      case 'number':
      case 'integer':
        return this.#number(node, type === 'integer');
      case 'boolean':
        return oneOfTexts(['true', 'false']);
      case 'null':
        return text('null');
    }
  }

  #number(node: SchemaNode, integer: boolean): Piece {
    const bounds = boundsOf(node);
    if (bounds.low === undefined && bounds.high === undefined && bounds.multipleOf === 1 && !bounds.multiple) {
      return integer ? this.#json.integer : this.#json.number;
    }
    return dfaPiece(numberDfa({ ...bounds, integer: integer || bounds.multiple }), 'raw');
  }

  #object(node: SchemaNode): Piece {
    const { names, required, property, others } = membersOf(node);
    checkCounts(node, names.length, required.size, others === undefined);
    const nameDfa = this.#nameDfa(node);
    const json = this.#json;
    return (machine, from) => {
      // Two ways run through the properties: before the first one that is written, and after it, where a comma is needed.
      let first = sequence(text('{'), json.gap)(machine, from);
      let later = machine.state();
      for (const name of names) {
        const entry = machine.state();
        const key = nameDfa === undefined || matches(nameDfa, name) ? text(`${JSON.stringify(name)}:`) : impossible;
        const next = { first: machine.state(), later: machine.state() };
        machine.skip(first, entry);
        machine.skip(sequence(text(','), json.gap)(machine, later), entry);
        machine.skip(sequence(key, json.space, this.#schema(property(name)))(machine, entry), next.later);
        if (!required.has(name)) {
          machine.skip(first, next.first);
          machine.skip(later, next.later);
        }
        ({ first, later } = next);
      }
      if (others !== undefined) {
        const entry = machine.state();
        const key = names.length === 0 && nameDfa === undefined ? json.string : quoted(within(nameDfa, allBut(names)));
        machine.skip(first, entry);
        machine.skip(sequence(text(','), json.gap)(machine, later), entry);
        machine.skip(sequence(key, text(':'), json.space, this.#schema(others))(machine, entry), later);
      }
      const end = text('}')(machine, first);
      machine.skip(sequence(json.gap, text('}'))(machine, later), end);
      return end;
    };
  }

  /** What names must be, by `propertyNames`. */
  #nameDfa(node: SchemaNode): CharDfa | undefined {
    const found = node.parts.flatMap(({ schema, path }) =>
      schema['propertyNames'] === undefined ? [] : [{ schema: schema['propertyNames'], path: `${path}/propertyNames` }],
    );
    const names = this.#reader.node(found);
    if (names === undefined) return refuse(`"propertyNames" at ${placeOf(node)} allows no name`);
    if (names.parts.some(({ schema }) => 'anyOf' in schema || 'oneOf' in schema || 'enum' in schema || 'const' in schema)) {
      unsupported(`"propertyNames" at ${placeOf(node)} may have "pattern", "format" and lengths only`);
    }
    return stringDfa(names);
  }

  #array(node: SchemaNode): Piece {
    const json = this.#json;
    const min = Math.max(0, ...keyword<number>(node, 'minItems'));
    const max = countedMax(Math.min(Number.POSITIVE_INFINITY, ...keyword<number>(node, 'maxItems')), GRAMMAR_LIMITS.counted);
    const { fixed, rest } = itemsOf(node);
    const items = fixed.map((found) => this.#schema(found));
    const other = this.#schema(rest);
    const further = max > Math.max(1, items.length) ? this.#further(other) : undefined;
    return (machine, from) => {
      const end = machine.state();
      const close = text(']');
      let at = sequence(text('['), json.gap)(machine, from);
      if (min === 0) machine.skip(close(machine, at), end);
      if (max === 0) return end;
      // Those that have a schema of their own, and the first one, before which no comma stands.
      let done = 0;
      do {
        at = (items[done] ?? other)(machine, done === 0 ? at : sequence(text(','), json.gap)(machine, at));
        done++;
        if (done >= min) machine.skip(sequence(json.gap, close)(machine, at), end);
      } while (done < items.length && done < max);
      if (further === undefined) return end;
      at = repeat(further, Math.max(1, min - done), max - done)(machine, at);
      machine.skip(sequence(json.gap, close)(machine, at), end);
      return end;
    };
  }

  /** The rule of an item after a comma. */
  #further(item: Piece): number {
    const rule = this.#machine.declare();
    return this.#machine.build(rule, sequence(text(','), this.#json.gap, item));
  }
}

/** Subschemas of an array's first items, and of those after them. */
function itemsOf(node: SchemaNode): { fixed: Found[][]; rest: Found[] } {
  const lists = node.parts.map(({ schema, path }) => {
    const { items, prefixItems, additionalItems } = schema;
    const draft7 = Array.isArray(items);
    const name = draft7 ? 'items' : 'prefixItems';
    const fixed = ((draft7 ? items : (prefixItems ?? [])) as readonly unknown[]).map(
      (schema, i): Found => ({ schema, path: `${path}/${name}/${i}` }),
    );
    const rest = draft7 ? additionalItems : items;
    const at = `${path}/${draft7 ? 'additionalItems' : 'items'}`;
    return { fixed, rest: rest === undefined ? [] : [{ schema: rest, path: at }] };
  });
  const length = Math.max(0, ...lists.map(({ fixed }) => fixed.length));
  return {
    fixed: Array.from({ length }, (_, i) => lists.flatMap(({ fixed, rest }) => fixed[i] ?? rest)),
    rest: lists.flatMap(({ rest }) => rest),
  };
}

function checkCounts(node: SchemaNode, names: number, required: number, closed: boolean): void {
  const min = Math.max(0, ...keyword<number>(node, 'minProperties'));
  if (min > required) unsupported(`"minProperties" above the number of required properties at ${placeOf(node)} is not supported`);
  const max = Math.min(Number.POSITIVE_INFINITY, ...keyword<number>(node, 'maxProperties'));
  if (max < names || (Number.isFinite(max) && !closed)) {
    unsupported(`"maxProperties" at ${placeOf(node)} is not supported unless all properties are named and no more than that`);
  }
}

function typeOf(value: unknown): TypeName {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  if (typeof value === 'number') return Number.isInteger(value) ? 'integer' : 'number';
  return typeof value as 'string' | 'boolean' | 'object';
}
