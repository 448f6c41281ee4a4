/** docker-compose.yml as both generations of Docker Compose read it: docker-compose 1.29 itself, and the parser of Docker Compose 2. */
import { execFile, spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { findBinary } from '@causeway/testkit';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { ROOT } from './manifests.ts';

const PARSER = join(ROOT, 'tests/deploy/compose-v2');
const PASSWORDS = {
  CAUSEWAY_NATS_PASSWORD: 'nats-secret',
  CAUSEWAY_REDIS_PASSWORD: 'redis-secret',
  CAUSEWAY_GRAFANA_PASSWORD: 'grafana-secret',
};

interface Service {
  image: string;
  command?: string[];
  environment?: Record<string, string | null>;
  networks?: string[] | Record<string, unknown>;
  depends_on?: string[] | Record<string, { condition: string }>;
  cpus?: number;
  cpu_quota?: number;
  cpu_shares?: number;
  mem_limit?: string;
  read_only?: boolean;
}

interface Compose {
  services: Record<string, Service>;
}

type Env = Readonly<Record<string, string>>;

// A copy of its own: whoever runs this has a `.env` beside the file.
const folder = mkdtempSync(join(tmpdir(), 'causeway-compose-'));
copyFileSync(join(ROOT, 'docker-compose.yml'), join(folder, 'docker-compose.yml'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const execute = promisify(execFile);
async function output(command: string, args: readonly string[], env: Env): Promise<string> {
  const all = { PATH: process.env['PATH'] ?? '', HOME: folder, ...env };
  return (await execute(command, [...args], { cwd: folder, env: all, timeout: 60_000, maxBuffer: 16 << 20 })).stdout;
}

function isThere(name: string): boolean {
  try {
    findBinary(name, name);
    return true;
  } catch {
    return false;
  }
}

async function byOne(env: Env): Promise<Compose> {
  const text = await output('docker-compose', ['--profile', 'load', '--profile', 'trace', 'config'], env);
  return parse(text) as Compose;
}

/** What both have to say alike. */
function facts({ services }: Compose): Record<string, object> {
  return Object.fromEntries(
    Object.entries(services).map(([name, service]) => [
      name,
      {
        image: service.image,
        command: service.command ?? [],
        environment: Object.fromEntries(Object.entries(service.environment ?? {}).map(([key, value]) => [key, value ?? ''])),
        networks: (Array.isArray(service.networks) ? service.networks : Object.keys(service.networks ?? {})).toSorted(),
        after: (Array.isArray(service.depends_on) ? service.depends_on : Object.keys(service.depends_on ?? {})).toSorted(),
        cpus: service.cpus ?? 0,
        cpuQuota: service.cpu_quota ?? 0,
        cpuShares: service.cpu_shares ?? 0,
        memory: bytes(service.mem_limit ?? '0'),
        readOnly: service.read_only ?? false,
      },
    ]),
  );
}

/** `512m` and `536870912` are the same. */
function bytes(text: string): number {
  const [, number, unit = ''] = /^(\d+)([kmg]?)$/.exec(text) ?? [];
  return Number(number) * 1024 ** ['', 'k', 'm', 'g'].indexOf(unit);
}

describe.skipIf(!isThere('docker-compose'))('docker-compose 1.29', () => {
  test('reads every service, with limits of memory and processors, and what the environment says', async () => {
    const env = { ...PASSWORDS, CAUSEWAY_PREFILL_THREADS: '3', CAUSEWAY_PREFILL_CPUS: '4.5' };
    const { services } = await byOne(env);
    expect(Object.keys(services)).toHaveLength(13);
    expect(services['prefill-0']).toMatchObject({ cpus: 4.5, environment: { CAUSEWAY_THREADS: '3' } });
    expect(services['decode-0']).toMatchObject({ cpus: 0, environment: { CAUSEWAY_THREADS: '1' } });
    expect(services['expert-0']).toMatchObject({ cpu_quota: 200_000 });
    expect(services['router']).toMatchObject({ cpu_quota: 200_000, cpu_shares: 2048, mem_limit: '1g' });
  });

  test('without any of the passwords it stops and says what to run', async () => {
    const without = async (missing: string): Promise<void> => {
      const { [missing]: _, ...others } = PASSWORDS as Record<string, string>;
      await expect(byOne(others)).rejects.toThrow(new RegExp(`${missing}.*\\./causeway compose`, 's'));
    };
    await Promise.all(Object.keys(PASSWORDS).map(without));
  });
});

/** Downloads its parser's modules; false: there is no Go, or no proxy of modules. */
function parserCanBeHad(): boolean {
  if (process.env['CAUSEWAY_TEST_FULL'] !== '1' || !isThere('go') || !isThere('docker-compose')) return false;
  return spawnSync('go', ['mod', 'download'], { cwd: PARSER, timeout: 120_000 }).status === 0;
}

describe.skipIf(!parserCanBeHad())('the parser of Docker Compose 2', () => {
  const program = join(folder, 'compose-v2');
  const byTwo = async (env: Env): Promise<Compose> => JSON.parse(await output(program, ['docker-compose.yml'], env)) as Compose;

  beforeAll(async () => {
    await execute('go', ['build', '-o', program, '.'], { cwd: PARSER, timeout: 300_000 });
  }, 320_000);

  test('reads what docker-compose 1.29 reads', async () => {
    const env = { ...PASSWORDS, CAUSEWAY_PREFILL_THREADS: '3', CAUSEWAY_PREFILL_CPUS: '4.5' };
    expect(facts(await byTwo(env))).toEqual(facts(await byOne(env)));
  });

  test('without passwords it stops and says what to run', async () => {
    await expect(byTwo({})).rejects.toThrow(/CAUSEWAY_NATS_PASSWORD is missing a value: run \.\/causeway compose/);
  });

  test('has nothing to warn of', async () => {
    const { stderr } = await execute(program, ['docker-compose.yml'], {
      cwd: folder,
      env: { ...PASSWORDS, HOME: folder },
      maxBuffer: 16 << 20,
    });
    expect(stderr).toBe('');
  });

  test('refuses a field that Compose does not know', async () => {
    const text = readFileSync(join(folder, 'docker-compose.yml'), 'utf8').replace('mem_limit', 'memory_limit');
    writeFileSync(join(folder, 'wrong.yml'), text);
    await expect(output(program, ['wrong.yml'], PASSWORDS)).rejects.toThrow('memory_limit');
  });
});
