import { readFileSync, statSync } from 'node:fs';
import { fail } from '@causeway/errors';
import { parse as parseYaml } from 'yaml';
import type { ConfigField, ConfigFields, ConfigOf } from './field.ts';

export interface ConfigSources<F extends ConfigFields = ConfigFields> {
  /** Arguments after the program's name: `--flag value`, `--flag=value`, a bare `--flag` for true. */
  argv?: readonly string[];
  env?: Readonly<Record<string, string | undefined>>;
  /** YAML or JSON file whose keys are field names; also taken from `--config FILE` and CAUSEWAY_CONFIG. */
  file?: string;
  /** Rules over several fields; each string is a problem. Runs when all fields are good alone. */
  check?: (config: ConfigOf<F>) => readonly string[];
}

interface Raw {
  value: unknown;
  /** For messages: `--http-port`, `CAUSEWAY_HTTP_PORT`, `httpPort in cluster.yaml`. */
  source: string;
}

const FILE_LIMIT_BYTES = 1 << 20;

/**
 * Reads a process's configuration: flag > environment > file > default.
 * Returns a deeply frozen value. Throws ServiceError `bad_config` that lists every problem, one per line; `main` prints it and exits 2.
 * An environment variable set to the empty string counts as unset.
 */
export function readConfig<const F extends ConfigFields>(fields: F, sources: ConfigSources<F>): ConfigOf<F> {
  const problems: string[] = [];
  const flags = readFlags(fields, sources.argv ?? [], problems);
  const env = sources.env ?? {};
  const path = flags.get('config') ?? nonEmpty(env['CAUSEWAY_CONFIG']) ?? sources.file;
  const file = path === undefined ? undefined : readFile(fields, path, problems);

  const values: Record<string, unknown> = {};
  for (const [key, field] of Object.entries(fields)) {
    const raw = pick(key, field, flags, env, file, path);
    const value = raw === undefined ? missing(field, problems) : parseField(field, raw, problems);
    values[key] = value;
  }
  if (problems.length === 0) problems.push(...(sources.check?.(values as ConfigOf<F>) ?? []));
  if (problems.length > 0) {
    const count = problems.length === 1 ? '1 problem' : `${problems.length} problems`;
    fail('invalid_argument', 'bad_config', `${count} in the configuration:\n${problems.map((p) => `  - ${p}`).join('\n')}`);
  }
  return deepFreeze(values) as ConfigOf<F>;
}

function nonEmpty(value: string | undefined): string | undefined {
  return value === '' ? undefined : value;
}

function pick(
  key: string,
  field: ConfigField,
  flags: ReadonlyMap<string, string>,
  env: Readonly<Record<string, string | undefined>>,
  file: ReadonlyMap<string, unknown> | undefined,
  path: string | undefined,
): Raw | undefined {
  const flag = flags.get(field.flag);
  if (flag !== undefined) return { value: flag, source: `--${field.flag}` };
  const variable = nonEmpty(env[field.env]);
  if (variable !== undefined) return { value: variable, source: field.env };
  if (file?.has(key) === true) return { value: file.get(key), source: `${key} in ${path}` };
  if (field.default !== undefined) return { value: field.default, source: `default of ${field.env}` };
  return undefined;
}

function missing(field: ConfigField, problems: string[]): undefined {
  if (field.optional !== true) problems.push(`${field.env} (or --${field.flag}) is required: ${field.doc}`);
  return undefined;
}

function parseField(field: ConfigField, raw: Raw, problems: string[]): unknown {
  const result = field.schema.safeParse(raw.value);
  if (result.success) return result.data;
  const shown = field.secret === true ? '(hidden)' : show(raw.value);
  for (const issue of result.error.issues) {
    const at = issue.path.length === 0 ? '' : ` at ${issue.path.join('.')}`;
    problems.push(`${raw.source}${at}: ${issue.message}, got ${shown}`);
  }
  return undefined;
}

function show(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

function readFlags(fields: ConfigFields, argv: readonly string[], problems: string[]): Map<string, string> {
  const known = new Map(Object.values(fields).map((field) => [field.flag, field]));
  const flags = new Map<string, string>();
  for (let i = 0; i < argv.length; i++) {
    const argument = argv[i] ?? '';
    if (!argument.startsWith('--') || argument === '--') {
      problems.push(`unexpected argument ${show(argument)}; settings are given as --name value`);
      continue;
    }
    const equals = argument.indexOf('=');
    const name = argument.slice(2, equals === -1 ? undefined : equals);
    const field = known.get(name);
    if (field === undefined && name !== 'config') {
      problems.push(`unknown flag --${name}; known: ${['config', ...known.keys()].map((k) => `--${k}`).join(' ')}`);
      if (equals === -1 && argv[i + 1]?.startsWith('--') === false) i++;
      continue;
    }
    const next = argv[i + 1];
    let value: string;
    if (equals !== -1) value = argument.slice(equals + 1);
    else if (next !== undefined && !next.startsWith('--')) {
      value = next;
      i++;
    } else if (field?.schema.safeParse('true').data === true) value = 'true';
    else {
      problems.push(`--${name} needs a value`);
      continue;
    }
    if (flags.has(name)) problems.push(`--${name} is given twice`);
    flags.set(name, value);
  }
  return flags;
}

function readFile(fields: ConfigFields, path: string, problems: string[]): Map<string, unknown> | undefined {
  let parsed: unknown;
  try {
    if (statSync(path).size > FILE_LIMIT_BYTES) {
      problems.push(`${path} is larger than ${FILE_LIMIT_BYTES} bytes; a configuration file is a few lines`);
      return undefined;
    }
    parsed = parseYaml(readFileSync(path, 'utf8'), { maxAliasCount: 100 });
  } catch (error) {
    problems.push(`${path} cannot be read: ${error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error)}`);
    return undefined;
  }
  if (parsed === null || parsed === undefined) return new Map();
  if (typeof parsed !== 'object' || Array.isArray(parsed)) {
    problems.push(`${path} must be a mapping of setting names to values`);
    return undefined;
  }
  const values = new Map<string, unknown>();
  for (const [key, value] of Object.entries(parsed)) {
    if (!Object.hasOwn(fields, key))
      problems.push(`unknown setting ${show(key)} in ${path}; known: ${Object.keys(fields).join(' ')}`);
    else if (value !== null) values.set(key, value);
  }
  return values;
}

/** Freezes plain objects and arrays, all the way down. */
function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value) && !ArrayBuffer.isView(value)) {
    Object.freeze(value);
    for (const inner of Object.values(value)) deepFreeze(inner);
  }
  return value;
}
