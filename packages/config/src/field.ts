import type { z } from 'zod';

/** One setting of a process: where it is read from, what it accepts and what it means. */
export interface ConfigField<S extends z.ZodType = z.ZodType> {
  /** Environment variable, `CAUSEWAY_...`. */
  readonly env: string;
  /** Command line flag without the leading dashes: `http-port`. */
  readonly flag: string;
  /** Parses a string (flag, environment) and a typed value (file). */
  readonly schema: S;
  /** Used when no source sets the field. Absent and `optional` unset: the field is required. */
  readonly default?: z.input<S>;
  /** May be left out; the value is then `undefined`. */
  readonly optional?: boolean;
  /** One sentence for the reader of the README and of error messages. */
  readonly doc: string;
  /** Never printed in tables or error messages. */
  readonly secret?: boolean;
}

export type ConfigFields = Readonly<Record<string, ConfigField>>;

type ValueOf<F> = F extends { schema: infer S extends z.ZodType }
  ? F extends { optional: true }
    ? z.output<S> | undefined
    : z.output<S>
  : never;

/** The value that `readConfig` gives for these fields. */
export type ConfigOf<F extends ConfigFields> = { readonly [K in keyof F]: ValueOf<F[K]> };

/**
 * Declares a process's fields, once; env and flag names must be unique.
 * Throws a plain Error at import time when two fields share a name: that is a mistake in the program, not in its input.
 */
export function defineConfig<const F extends ConfigFields>(fields: F): F {
  const seen = new Map<string, string>();
  for (const [key, field] of Object.entries(fields)) {
    for (const name of [field.env, `--${field.flag}`]) {
      const other = seen.get(name);
      if (other !== undefined) throw new Error(`config fields ${other} and ${key} both use ${name}`);
      seen.set(name, key);
    }
  }
  return fields;
}
