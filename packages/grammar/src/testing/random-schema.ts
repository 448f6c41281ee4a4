/** Random schemas that use every keyword there is, for tests. */
import fc from 'fast-check';

const NAMES = ['a', 'b', 'ab', 'naïve', 'x"y', 'a/b~c', ''] as const;
const PATTERNS = [
  '^[a-c]{2,4}$',
  'x|yz',
  '^\\d+$',
  '[^a]b',
  '(ab)*',
  '^(?=.*\\d)(?!.*00)[a-f\\d]{3,6}$',
  '\\p{Lu}\\w',
  '"\\\\\\n',
] as const;
const FORMATS = ['date-time', 'date', 'time', 'duration', 'email', 'hostname', 'ipv4', 'ipv6', 'uuid', 'uri'] as const;

const constant = fc.oneof(
  fc.integer({ min: -50, max: 50 }),
  fc.string({ maxLength: 6 }),
  fc.boolean(),
  fc.constant(null),
  fc.constant(1.5),
);
const bound = fc.oneof(
  fc.integer({ min: -1000, max: 1000 }),
  fc.double({ min: -20, max: 20, noNaN: true }).map((v) => Number(v.toFixed(3))),
);

/** Bounds that leave something, now and then with only one side. */
const numbers = fc
  .record({
    type: fc.constantFrom('number', 'integer'),
    low: bound,
    width: fc.integer({ min: 3, max: 5000 }),
    sides: fc.integer({ min: 0, max: 8 }),
  })
  .map(({ type, low, width, sides }) => ({
    type,
    ...([1, 3].includes(sides) ? { minimum: low } : {}),
    ...([2, 3].includes(sides) ? { maximum: low + width } : {}),
    ...([4, 6].includes(sides) ? { exclusiveMinimum: low } : {}),
    ...([5, 6].includes(sides) ? { exclusiveMaximum: low + width } : {}),
    ...(sides === 7 ? { multipleOf: (width % 97) + 1 } : {}),
  }));

const strings = fc.oneof(
  fc.record({ type: fc.constant('string'), minLength: fc.nat(6) }, { requiredKeys: ['type'] }),
  fc
    .record({ min: fc.nat(5), more: fc.nat(200) })
    .map(({ min, more }) => ({ type: 'string', minLength: min, maxLength: min + more })),
  fc.constantFrom(...PATTERNS).map((pattern) => ({ type: 'string', pattern })),
  fc.constantFrom(...FORMATS).map((format) => ({ type: 'string', format })),
);

type Schema = object | boolean;

export const schemas: fc.Arbitrary<Schema> = fc.letrec<{ schema: Schema }>((tie) => {
  const inner = tie('schema');
  const objects = fc
    .record({
      properties: fc.dictionary(fc.constantFrom(...NAMES), inner, { maxKeys: 4 }),
      required: fc.subarray([...NAMES, 'elsewhere'], { maxLength: 2 }),
      additionalProperties: fc.option(inner, { nil: undefined }),
      propertyNames: fc.constantFrom(undefined, undefined, undefined, { pattern: '^[a-z]*$' }),
    })
    .map(({ properties, required, additionalProperties, propertyNames }) => ({
      type: 'object',
      properties,
      required,
      ...(additionalProperties === undefined ? {} : { additionalProperties }),
      ...(propertyNames === undefined || required.some((name) => !/^[a-z]*$/.test(name)) ? {} : { propertyNames }),
    }));
  const arrays = fc
    .record({
      items: inner,
      prefixItems: fc.array(inner, { maxLength: 2 }),
      min: fc.nat(3),
      more: fc.option(fc.nat(150), { nil: undefined }),
    })
    .map(({ items, prefixItems, min, more }) => ({
      type: 'array',
      items,
      ...(prefixItems.length > 0 ? { prefixItems } : {}),
      minItems: min,
      ...(more === undefined ? {} : { maxItems: min + more }),
    }));
  const branches = fc.array(inner, { minLength: 1, maxLength: 3 }).map((anyOf) => ({ anyOf }));
  const tagged = fc
    .uniqueArray(fc.constantFrom('p', 'q', 'r'), { minLength: 1 })
    .chain((tags) =>
      fc.tuple(
        ...tags.map((tag) =>
          inner.map((value) => ({ type: 'object', properties: { tag: { const: tag }, value }, required: ['tag'] })),
        ),
      ),
    )
    .map((oneOf) => ({ oneOf }));
  const conjunction = fc.tuple(objects, objects).map((allOf) => ({ allOf }));
  const several = fc
    .subarray(['object', 'array', 'string', 'integer', 'boolean', 'null'], { minLength: 1 })
    .map((type) => ({ type }));
  return {
    schema: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      { weight: 3, arbitrary: fc.oneof(numbers, strings, several) },
      { weight: 1, arbitrary: fc.array(constant, { minLength: 1, maxLength: 5 }).map((values) => ({ enum: values })) },
      { weight: 1, arbitrary: fc.constantFrom<Schema>({}, true, { type: 'boolean' }, { const: { k: [1, 'two'] } }) },
      { weight: 3, arbitrary: objects },
      { weight: 2, arbitrary: arrays },
      { weight: 1, arbitrary: branches },
      { weight: 1, arbitrary: tagged },
      { weight: 1, arbitrary: conjunction },
    ),
  };
}).schema;
