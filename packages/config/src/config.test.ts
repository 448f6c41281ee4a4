import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ServiceError } from '@causeway/errors';
import fc from 'fast-check';
import { afterAll, expect, test } from 'vitest';
import { z } from 'zod';
import {
  bool,
  byteSize,
  configHelp,
  configTable,
  defineConfig,
  integer,
  milliseconds,
  number,
  oneOf,
  port,
  readConfig,
  text,
  urls,
} from './index.ts';

const fields = defineConfig({
  httpPort: { env: 'CAUSEWAY_HTTP_PORT', flag: 'http-port', schema: port(), default: 8000, doc: 'HTTP port' },
  modelPath: { env: 'CAUSEWAY_MODEL_PATH', flag: 'model-path', schema: text(), doc: 'Folder | file of the model' },
  placement: { env: 'CAUSEWAY_PLACEMENT', flag: 'placement', schema: oneOf(['auto', 'local']), default: 'auto', doc: 'Where' },
  budget: { env: 'CAUSEWAY_BUDGET', flag: 'budget', schema: byteSize({ max: 2 ** 40 }), default: '1GiB', doc: 'KV budget' },
  verbose: { env: 'CAUSEWAY_VERBOSE', flag: 'verbose', schema: bool(), default: false, doc: 'More' },
  password: { env: 'CAUSEWAY_PASSWORD', flag: 'password', schema: text({ max: 5 }), optional: true, secret: true, doc: 'Secret' },
  pools: { env: 'CAUSEWAY_POOLS', flag: 'pools', schema: z.array(z.object({ count: integer() })), optional: true, doc: 'Pools' },
});

const folder = mkdtempSync(join(tmpdir(), 'causeway-config-'));
afterAll(() => rmSync(folder, { recursive: true }));
function file(name: string, content: string): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}
function problem(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(ServiceError);
    expect((error as ServiceError).reason).toBe('bad_config');
    return (error as ServiceError).message;
  }
  throw new Error('nothing was thrown');
}

test('flag beats environment beats file beats default', () => {
  const path = file('a.yaml', 'httpPort: 3\nplacement: local\nmodelPath: from-file\npools: [{count: 2}]\n');
  const env = { CAUSEWAY_HTTP_PORT: '2', CAUSEWAY_MODEL_PATH: 'from-env', CAUSEWAY_PLACEMENT: '' };
  const config = readConfig(fields, { argv: ['--http-port=1', '--verbose'], env, file: path });
  expect(config).toEqual({
    httpPort: 1,
    modelPath: 'from-env',
    placement: 'local',
    budget: 2 ** 30,
    verbose: true,
    password: undefined,
    pools: [{ count: 2 }],
  });
  const typed: number = config.httpPort;
  const optional: string | undefined = config.password;
  expect([typed, optional]).toEqual([1, undefined]);
  expect(readConfig(fields, { argv: ['--config', path, '--no-such=1'].slice(0, 2), env: {} }).modelPath).toBe('from-file');
  expect(readConfig(fields, { env: { CAUSEWAY_CONFIG: path } }).httpPort).toBe(3);
});

test('the result is frozen all the way down', () => {
  const config = readConfig(fields, { argv: ['--model-path', 'm'], file: file('b.json', '{"pools": [{"count": 1}]}') });
  expect(Object.isFrozen(config)).toBe(true);
  expect(() => ((config.pools as { count: number }[])[0] as { count: number }).count++).toThrow(TypeError);
});

test('every problem is told at once, with its source', () => {
  const path = file('c.yaml', 'placement: nowhere\nhttpport: 1\n__proto__: 2\n');
  const message = problem(() =>
    readConfig(fields, {
      argv: ['stray', '--http-port', '70000', '--unknown', 'x', '--budget', '--verbose=perhaps', '--verbose=true'],
      env: { CAUSEWAY_PASSWORD: 'much-too-long' },
      file: path,
    }),
  );
  expect(message.split('\n')[0]).toBe('10 problems in the configuration:');
  for (const part of [
    'unexpected argument "stray"',
    '--http-port: must be a whole number from 0 to 65535, got "70000"',
    'unknown flag --unknown; known: --config --http-port',
    '--budget needs a value',
    '--verbose is given twice',
    'CAUSEWAY_PASSWORD: must be at most 5 characters long, got (hidden)',
    'placement in ',
    'must be one of auto, local, got "nowhere"',
    'unknown setting "httpport"',
    'unknown setting "__proto__"',
    'CAUSEWAY_MODEL_PATH (or --model-path) is required: Folder',
  ]) {
    expect(message).toContain(part);
  }
});

test.each([
  ['missing', undefined, /cannot be read: ENOENT/],
  ['list.yaml', '- a\n- b\n', /must be a mapping/],
  ['broken.yaml', 'a: [1, 2\n', /cannot be read/],
  ['huge.yaml', `a: ${'x'.repeat(2_000_000)}`, /larger than/],
  [
    'bomb.yaml',
    `a: &a [1,1,1,1,1,1,1,1,1]\n${'bcdefgh'
      .split('')
      .map((c, i) => `${c}: &${c} [${Array(9).fill(`*${'abcdefgh'[i]}`).join()}]`)
      .join('\n')}\n`,
    /cannot be read/,
  ],
])('a bad file (%s) is a problem, not a crash', (name, content, expected) => {
  const path = content === undefined ? join(folder, name) : file(name, content);
  expect(problem(() => readConfig(fields, { argv: ['--model-path=m'], file: path }))).toMatch(expected);
});

test('rules over several fields run when each is good alone', () => {
  const check = (config: { httpPort: number }): string[] =>
    config.httpPort === 1 ? ['port 1 and model m do not go together'] : [];
  expect(problem(() => readConfig(fields, { argv: ['--model-path=m', '--http-port=1'], check }))).toContain('do not go together');
  expect(readConfig(fields, { argv: ['--model-path=m', '--http-port=2'], check }).httpPort).toBe(2);
});

test('two fields cannot share a name', () => {
  const field = { env: 'CAUSEWAY_A', flag: 'a', schema: text(), doc: '' };
  expect(() => defineConfig({ a: field, b: { ...field, flag: 'b' } })).toThrow(/CAUSEWAY_A/);
});

test('schemas accept what they say', () => {
  expect(byteSize().parse('1.5KiB')).toBe(1536);
  expect(byteSize().parse(7)).toBe(7);
  for (const bad of ['-1', '1XiB', 'KiB', '1e3', '', 1.5, null, '9'.repeat(40)])
    expect(byteSize().safeParse(bad).success).toBe(false);
  for (const bad of ['1.5', '0x10', ' ', 'NaN', 'Infinity', '1,000', true, [1], '-1'])
    expect(integer().safeParse(bad).success).toBe(false);
  expect(integer({ min: -5 }).parse(' -5 ')).toBe(-5);
  expect(number({ min: 0, max: 1 }).parse('.5')).toBe(0.5);
  expect(milliseconds().safeParse('3000000000').success).toBe(false);
  expect(bool().parse('off')).toBe(false);
  expect(bool().safeParse(1).success).toBe(false);
  expect(text().safeParse('a\u0000b').success).toBe(false);
  expect(urls(['nats:']).parse('nats://a:1,nats://b:2')).toBe('nats://a:1,nats://b:2');
  for (const bad of ['http://a', 'nats://', 'a:1', 'nats://a,']) expect(urls(['nats:']).safeParse(bad).success).toBe(false);
});

test('whatever is given, the answer is a value or a list of problems', () => {
  fc.assert(
    fc.property(
      fc.array(fc.string()),
      fc.dictionary(fc.constantFrom(...Object.values(fields).map((f) => f.env)), fc.string()),
      (argv, env) => {
        try {
          expect(Object.isFrozen(readConfig(fields, { argv: argv.filter((a) => !a.startsWith('--config')), env }))).toBe(true);
        } catch (error) {
          expect((error as ServiceError).reason).toBe('bad_config');
        }
      },
    ),
  );
});

test('the table and the help name every setting and hide secrets', () => {
  const table = configTable(fields);
  expect(table.split('\n').slice(0, 3)).toEqual([
    '| variable | flag | default | meaning |',
    '| --- | --- | --- | --- |',
    '| `CAUSEWAY_HTTP_PORT` | `--http-port` | `8000` | HTTP port |',
  ]);
  expect(table).toContain('| `CAUSEWAY_MODEL_PATH` | `--model-path` | **required** | Folder \\| file of the model |');
  expect(table).toContain('(hidden)');
  for (const field of Object.values(fields)) expect(configHelp(fields)).toContain(`--${field.flag} (${field.env})`);
});
