import { z } from 'zod';

const DECIMAL = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

/** A string that spells a decimal number becomes that number; anything else stays and fails the number check. */
function numeric(value: unknown): unknown {
  return typeof value === 'string' && DECIMAL.test(value.trim()) ? Number(value) : value;
}

/** Names the input type of a preprocessed schema, which zod leaves unknown; what doesn't fit is refused by the inner schema. */
function accepting<I, O>(schema: z.ZodType<O>): z.ZodType<O, I> {
  return schema as z.ZodType<O, I>;
}

/** A whole number within [min, max]; default bounds are the safe integers from 0. */
export function integer(bounds: { min?: number; max?: number } = {}): z.ZodType<number, number | string> {
  const min = bounds.min ?? 0;
  const max = bounds.max ?? Number.MAX_SAFE_INTEGER;
  const range = `a whole number from ${min} to ${max}`;
  return accepting(
    z.preprocess(
      numeric,
      z.number(`must be ${range}`).int(`must be ${range}`).min(min, `must be ${range}`).max(max, `must be ${range}`),
    ),
  );
}

/** A finite number within [min, max]. */
export function number(bounds: { min?: number; max?: number } = {}): z.ZodType<number, number | string> {
  const min = bounds.min ?? -Number.MAX_VALUE;
  const max = bounds.max ?? Number.MAX_VALUE;
  const range = bounds.min === undefined && bounds.max === undefined ? 'a number' : `a number from ${min} to ${max}`;
  return accepting(z.preprocess(numeric, z.number(`must be ${range}`).min(min, `must be ${range}`).max(max, `must be ${range}`)));
}

/** A TCP port; 0 asks the system for a free one. */
export function port(): z.ZodType<number, number | string> {
  return integer({ min: 0, max: 65_535 });
}

/** A duration in whole milliseconds; at most what a timer can hold (2^31 - 1). */
export function milliseconds(bounds: { min?: number; max?: number } = {}): z.ZodType<number, number | string> {
  return integer({ min: bounds.min ?? 0, max: bounds.max ?? 2_147_483_647 });
}

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  kib: 1024,
  mib: 1024 ** 2,
  gib: 1024 ** 3,
  tib: 1024 ** 4,
  kb: 1000,
  mb: 1000 ** 2,
  gb: 1000 ** 3,
  tb: 1000 ** 4,
};

/** A size in bytes: a number, or a string such as `512MiB`, `2GiB`, `1000000`. */
export function byteSize(bounds: { min?: number; max?: number } = {}): z.ZodType<number, number | string> {
  const min = bounds.min ?? 0;
  const max = bounds.max ?? Number.MAX_SAFE_INTEGER;
  const message = `must be a size in bytes from ${min} to ${max}, such as 536870912 or 512MiB`;
  return accepting(
    z.preprocess(
      (value) => {
        if (typeof value !== 'string') return value;
        const match = /^\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*$/i.exec(value);
        const unit = UNITS[(match?.[2] ?? '?').toLowerCase()];
        return match?.[1] === undefined || unit === undefined ? value : Math.round(Number(match[1]) * unit);
      },
      z.number(message).int(message).min(min, message).max(max, message),
    ),
  );
}

/** A yes/no: true, false, 1, 0, yes, no, on, off. */
export function bool(): z.ZodType<boolean, boolean | string> {
  return accepting(
    z.preprocess((value) => {
      if (typeof value !== 'string') return value;
      const word = value.trim().toLowerCase();
      if (['true', '1', 'yes', 'on'].includes(word)) return true;
      return ['false', '0', 'no', 'off'].includes(word) ? false : value;
    }, z.boolean('must be true or false')),
  );
}

/** Text of 1 to `max` characters (default 4096) without control characters. */
export function text(limits: { max?: number; pattern?: RegExp; what?: string } = {}): z.ZodType<string, string> {
  const what = limits.what ?? 'text without control characters';
  const max = limits.max ?? 4096;
  let schema = z
    .string(`must be ${what}`)
    .min(1, `must be ${what}`)
    .max(max, `must be at most ${max} characters long`)
    // oxlint-disable-next-line no-control-regex -- control characters are what is refused
    .regex(/^[^\u0000-\u001f\u007f]*$/, `must be ${what}`);
  if (limits.pattern !== undefined) schema = schema.regex(limits.pattern, `must be ${what}`);
  return schema;
}

/** Texts by name: a mapping, or a JSON object that spells one, with at least one entry. */
export function textsByName(): z.ZodType<Readonly<Record<string, string>>, Readonly<Record<string, string>> | string> {
  const texts = z.record(text({ max: 256 }), text());
  return z.union([z.string(), texts]).transform((value, context) => {
    const result = texts.safeParse(typeof value === 'string' ? parsedJson(value) : value);
    if (result.success && Object.keys(result.data).length > 0) return result.data;
    context.addIssue({ code: 'custom', message: 'must be a JSON object of texts by name, such as {"name": "text"}' });
    return z.NEVER;
  });
}

function parsedJson(value: string): unknown {
  try {
    return JSON.parse(value);
  } catch {
    return undefined;
  }
}

/** One of a closed set of words. */
export function oneOf<const T extends readonly [string, ...string[]]>(words: T): z.ZodType<T[number], string> {
  return z.enum(words, `must be one of ${words.join(', ')}`) as unknown as z.ZodType<T[number], string>;
}

/** A URL (or comma-separated URLs) with one of the protocols given, such as `['redis:', 'rediss:']`. */
export function urls(protocols: readonly string[]): z.ZodType<string, string> {
  const message = `must be a URL that begins with ${protocols.map((p) => `${p}//`).join(' or ')}`;
  return z.string(message).refine(
    (value) =>
      value.split(',').every((part) => {
        const parsed = URL.parse(part.trim());
        return parsed !== null && protocols.includes(parsed.protocol) && parsed.hostname !== '';
      }),
    message,
  );
}
