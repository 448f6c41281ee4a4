/** What one value must satisfy: several schemas at once, by `allOf`, `$ref` and the keywords of several parents. */
import { refuse } from '../grammar-error.ts';
import { GRAMMAR_LIMITS } from '../limits.ts';
import { checkKeywords, isObject, type Schema, TYPES, type TypeName } from './keywords.ts';

/** A schema without `$ref` and `allOf`, and where it stands. */
export interface Part {
  readonly schema: Schema;
  readonly path: string;
}

/** References and conjunctions within one another, with nothing else in between. */
const MAX_CHAIN = 64;

/** All parts must hold. None: any value. */
export interface SchemaNode {
  readonly parts: readonly Part[];
  /** Names the node: equal nodes are compiled once, so that recursion ends. */
  readonly key: string;
}

/** A subschema that has not been looked into. */
export interface Found {
  readonly schema: unknown;
  readonly path: string;
}

/** Finds schemas in one document and takes references and conjunctions apart. */
export class SchemaReader {
  readonly #root: unknown;
  #count = 0;

  constructor(root: unknown) {
    this.#root = root;
  }

  /**
   * The conjunction of subschemas; undefined when one of them is `false`: no value satisfies it.
   * @throws GrammarError for a reference to nowhere or to itself, and for bad keywords
   */
  node(found: readonly Found[], known: readonly Part[] = []): SchemaNode | undefined {
    const parts = new Map(known.map((part) => [part.path, part]));
    for (const entry of found) if (!this.#add(entry, parts, new Set())) return undefined;
    return nodeOf([...parts.values()]);
  }

  /** False: nothing satisfies it. `chain`: references that led here with nothing in between. */
  #add({ schema, path }: Found, parts: Map<string, Part>, chain: ReadonlySet<string>): boolean {
    if (schema === true) return true;
    if (schema === false) return false;
    if (!isObject(schema)) return refuse(`the schema at ${path} must be an object, true or false`);
    if (chain.has(path)) refuse(`the schema at ${path} refers to itself with nothing in between, so that it says nothing`);
    if (++this.#count > GRAMMAR_LIMITS.schemas) {
      refuse(`it is too large: more than ${GRAMMAR_LIMITS.schemas} subschemas, counted wherever they are used`);
    }
    if (chain.size > MAX_CHAIN) refuse(`the schema at ${path} is reached by more than ${MAX_CHAIN} references one after another`);
    checkKeywords(schema, path);
    const { $ref: reference, allOf, ...rest } = schema;
    const inner = new Set([...chain, path]);
    if (typeof reference === 'string' && !this.#add(this.#resolve(reference, path), parts, inner)) return false;
    for (const [i, part] of ((allOf ?? []) as readonly unknown[]).entries()) {
      if (!this.#add({ schema: part, path: `${path}/allOf/${i}` }, parts, inner)) return false;
    }
    if (Object.keys(rest).length > 0) parts.set(path, { schema: rest, path });
    return true;
  }

  /** Only within the document: nothing is fetched. */
  #resolve(reference: string, path: string): Found {
    const at = `"$ref" ${JSON.stringify(reference.slice(0, 100))} at ${path}`;
    if (reference !== '#' && !reference.startsWith('#/')) refuse(`${at} must begin with "#/": only this schema is searched`);
    let schema = this.#root;
    for (const token of reference.split('/').slice(1)) {
      const name = unescaped(token);
      if (Array.isArray(schema) && /^\d{1,6}$/.test(name)) schema = schema[Number(name)];
      else schema = isObject(schema) && Object.hasOwn(schema, name) ? schema[name] : undefined;
    }
    if (schema === undefined) refuse(`${at} leads nowhere`);
    return { schema, path: reference };
  }
}

export function nodeOf(parts: readonly Part[]): SchemaNode {
  return {
    parts,
    key: parts
      .map(({ path }) => path)
      .sort()
      .join(' & '),
  };
}

/** Where a node stands, for people. */
export function placeOf({ parts }: SchemaNode): string {
  return parts[0]?.path ?? '#';
}

/** Values of a keyword in all parts that have it. */
export function keyword<T>(node: SchemaNode, name: string): T[] {
  return node.parts.filter(({ schema }) => schema[name] !== undefined).map(({ schema }) => schema[name] as T);
}

/** Keywords that speak of one type only: where `type` is missing, they tell which is meant. */
const HINTS: readonly (readonly [type: TypeName, keywords: readonly string[]])[] = [
  ['object', ['properties', 'required', 'additionalProperties', 'propertyNames', 'minProperties', 'maxProperties']],
  ['array', ['items', 'prefixItems', 'minItems', 'maxItems', 'uniqueItems']],
  ['string', ['pattern', 'format', 'minLength', 'maxLength']],
  ['number', ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'multipleOf']],
];

/** Types by `type` alone. */
export function statedTypes(node: SchemaNode): readonly TypeName[] {
  const lists = keyword<TypeName | readonly TypeName[]>(node, 'type').map((value) => [value].flat());
  return lists.length > 0 ? lists.reduce(commonTypes) : TYPES.filter((type) => type !== 'integer');
}

/**
 * Types that are written. Without `type` those that the other keywords speak of, if any: JSON Schema would take any other value too, but
 * nobody means that.
 */
export function typesOf(node: SchemaNode): readonly TypeName[] {
  const hinted = HINTS.filter(([, keywords]) => node.parts.some(({ schema }) => keywords.some((name) => name in schema)));
  const stated = keyword(node, 'type').length > 0;
  return stated || hinted.length === 0 ? statedTypes(node) : hinted.map(([type]) => type);
}

function commonTypes(a: readonly TypeName[], b: readonly TypeName[]): TypeName[] {
  const has = (list: readonly TypeName[], type: TypeName): boolean =>
    list.includes(type) || (type === 'integer' && list.includes('number'));
  return TYPES.filter(
    (type) => has(a, type) && has(b, type) && (type !== 'integer' || !(a.includes('number') && b.includes('number'))),
  );
}

/** Members of objects: which properties are known, which of them must be there, what others must satisfy. */
export interface Members {
  /** In the order in which they are first named. */
  names: readonly string[];
  required: ReadonlySet<string>;
  /** Subschemas of a property, by every part that speaks of it. */
  property: (this: void, name: string) => Found[];
  /** Subschemas of other properties; undefined: there are none. */
  others: Found[] | undefined;
}

export function membersOf(node: SchemaNode): Members {
  const names = new Set<string>();
  const required = new Set(keyword<readonly string[]>(node, 'required').flat());
  for (const properties of keyword<Schema>(node, 'properties')) for (const name of Object.keys(properties)) names.add(name);
  for (const name of required) names.add(name);
  const additional = node.parts.flatMap(({ schema, path }) =>
    schema['additionalProperties'] === undefined
      ? []
      : [{ schema: schema['additionalProperties'], path: `${path}/additionalProperties` }],
  );
  const property = (name: string): Found[] =>
    node.parts.flatMap(({ schema, path }): Found[] => {
      const own = schema['properties'] as Schema | undefined;
      if (own !== undefined && Object.hasOwn(own, name))
        return [{ schema: own[name], path: `${path}/properties/${escaped(name)}` }];
      const others = schema['additionalProperties'];
      return others === undefined ? [] : [{ schema: others, path: `${path}/additionalProperties` }];
    });
  // Where nothing is said of other properties and some are known, those are the ones that are meant.
  const closed = additional.length === 0 ? names.size > 0 : additional.some(({ schema }) => schema === false);
  return { names: [...names], required, property, others: closed ? undefined : additional };
}

function escaped(name: string): string {
  return name.replaceAll('~', '~0').replaceAll('/', '~1');
}

function unescaped(token: string): string {
  const text = token.replaceAll('~1', '/').replaceAll('~0', '~');
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
