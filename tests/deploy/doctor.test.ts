/** `./causeway doctor`: what it says of a good deployment, and of each thing that is wrong with one. */
import { execFile } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eventually, freePort, startCluster, startNats, startRedis } from '@causeway/testkit';
import { afterAll, expect, test } from 'vitest';
import { ROOT } from './manifests.ts';

const MODEL = join(ROOT, 'models/tiny-moe');
const folder = mkdtempSync(join(tmpdir(), 'causeway-doctor-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Finding {
  level: string;
  what: string;
  found: string;
  todo?: string;
}

async function doctor(
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<{ code: number; findings: Finding[]; stdout: string }> {
  return new Promise((done) => {
    const program = [join(ROOT, 'services/cli/src/main.ts'), 'doctor', ...args];
    const all = { PATH: process.env['PATH'] ?? '', HOME: folder, CAUSEWAY_RUN_DIR: join(folder, 'run'), ...env };
    execFile(process.execPath, program, { env: all, timeout: 60_000 }, (error, stdout) => {
      const code = error === null ? 0 : Number(error.code);
      done({ code, stdout, findings: args.includes('--json') ? (JSON.parse(stdout) as Finding[]) : [] });
    });
  });
}

const problems = (findings: readonly Finding[]): Finding[] => findings.filter(({ level }) => level === 'problem');

test('a machine without a cluster: only the machine is checked, and said so', async () => {
  const { code, stdout } = await doctor([]);
  expect(stdout).toMatch(/ok +ONNX Runtime: .*CPU/);
  expect(stdout).toMatch(/ok +nats-server: 2\.\d+/);
  expect(stdout).toContain('only the machine was checked');
  expect(code).toBe(0);
});

test('a cluster that is well has no problems; one with another checkpoint, or without decode workers, has', async () => {
  await using cluster = await startCluster({ model: MODEL, modelName: 'tiny-moe' });
  const at = ['--json', '--nats-url', cluster.nats.url, '--redis-url', cluster.redis.url];
  const well = await doctor(at);
  expect(problems(well.findings)).toEqual([]);
  expect(well.code).toBe(0);
  expect(well.findings.map(({ what }) => what).join()).toContain('decode-1, gRPC at 127.0.0.1');
  for (const what of ['prefill-1, ready', 'decode-1, ready', 'versions'])
    expect(well.findings).toContainEqual(expect.objectContaining({ level: 'ok', what }));

  // What the server's monitoring port tells, and workers that lost NATS: reached over one plane, cut off in the other.
  const monitored = [...at, '--nats-monitoring-url', cluster.nats.monitoringUrl];
  const limits = (await doctor(monitored)).findings.filter(({ what }) => what.startsWith('NATS monitoring'));
  expect(limits.map(({ level, what }) => [level, what.split(', ')[1]])).toEqual([
    ['ok', 'connections'],
    ['ok', 'max_pending'],
    ['ok', 'write_deadline'],
    ['ok', 'slow consumers'],
  ]);
  await cluster.nats.signal('KILL');
  const cut = await eventually(
    async () => {
      const { findings } = await doctor(monitored);
      return problems(findings).filter(({ what }) => what.endsWith(', ready')).length === 2 ? findings : undefined;
    },
    { timeoutMs: 30_000, intervalMs: 500, what: 'workers that say that they lost NATS' },
  );
  expect(problems(cut)).toMatchObject([
    { what: expect.stringMatching(/^NATS at/), found: expect.stringContaining('ECONNREFUSED') },
    {
      what: expect.stringContaining('ready'),
      found: 'NATS is not connected',
      todo: expect.stringContaining('CAUSEWAY_NATS_URL'),
    },
    { what: expect.stringContaining('ready'), found: 'NATS is not connected' },
    { what: expect.stringMatching(/^NATS monitoring at/), found: expect.stringContaining('ECONNREFUSED') },
  ]);
  await cluster.nats.start();
  await eventually(async () => (await doctor(at)).code === 0, {
    timeoutMs: 30_000,
    intervalMs: 500,
    what: 'a cluster that is well again',
  });

  // The same model with one weight more: another fingerprint.
  const other = join(folder, 'other-model');
  cpSync(MODEL, other, { recursive: true });
  const weights = readFileSync(join(other, 'model.safetensors'));
  weights[weights.length - 1] = (weights[weights.length - 1] ?? 0) ^ 1;
  writeFileSync(join(other, 'model.safetensors'), weights);
  await cluster.startWorker('prefill', 'prefill-2', { CAUSEWAY_MODEL_PATH: other });
  const mixed = await doctor(at);
  expect(mixed.code).toBe(1);
  expect(problems(mixed.findings)).toMatchObject([
    { what: 'fingerprints of tiny-moe', found: expect.stringMatching(/differ in weights/) },
  ]);

  await cluster.worker('decode-1').process.stop();
  await cluster.worker('prefill-2').process.stop();
  const without = await doctor(at);
  expect(problems(without.findings).map(({ what }) => what)).toEqual(['decode workers']);
  const elsewhere = await doctor([...at, '--namespace', 'other']);
  expect(problems(elsewhere.findings)).toMatchObject([{ what: 'workers', todo: expect.stringContaining('namespace') }]);
}, 120_000);

test('shards: every expert on a live one is well, on none a problem', async () => {
  await using cluster = await startCluster({ model: MODEL, modelName: 'tiny-moe', expert: 2 });
  const at = ['--json', '--nats-url', cluster.nats.url, '--redis-url', cluster.redis.url];
  const well = await doctor(at);
  expect(problems(well.findings)).toEqual([]);
  expect(well.findings).toContainEqual(
    expect.objectContaining({
      level: 'ok',
      what: 'experts of tiny-moe',
      found: expect.stringMatching(/^2 shards, 1\.00 copies/),
    }),
  );
  expect(well.findings.map(({ what }) => what).join()).toContain('expert-2, gRPC at 127.0.0.1');

  // Both at once: nobody is left to take their experts over.
  await Promise.all(['expert-1', 'expert-2'].map((id) => cluster.worker(id).process.kill()));
  const without = await eventually(
    async () => {
      const { findings } = await doctor(at);
      return problems(findings).some(({ what }) => what === 'experts of tiny-moe') ? findings : undefined;
    },
    { timeoutMs: 30_000, intervalMs: 500, what: 'leases that have ended' },
  );
  expect(problems(without)).toMatchObject([{ found: expect.stringMatching(/^0 shards, .* 0 of the expert with fewest/) }]);
}, 120_000);

test('servers that are away, are something else, or refuse the password', async () => {
  await using redis = await startRedis({ args: ['--user', 'w', 'on', '>right', '~*', '+@all'] });
  await using nats = await startNats({
    maxPayload: 8192,
    extraConfig: 'max_connections: 1\nmax_pending: 1048576\nwrite_deadline: "100ms"',
  });
  const port = await freePort();
  const away = await doctor([
    '--json',
    '--nats-url',
    `nats://127.0.0.1:${port}`,
    '--redis-url',
    redis.url.replace('//', '//w:wrong@'),
  ]);
  expect(away.code).toBe(1);
  expect(problems(away.findings)).toMatchObject([
    { found: expect.stringContaining('ECONNREFUSED') },
    { found: expect.stringContaining('WRONGPASS'), todo: expect.stringContaining('CAUSEWAY_REDIS_URL') },
  ]);
  expect(away.stdout).not.toContain('wrong@');
  const small = await doctor(['--json', '--nats-url', nats.url]);
  expect(small.findings.filter(({ level }) => level === 'warning').map(({ what }) => what.split(', ')[1])).toEqual([
    'max_payload',
    'users',
  ]);
  const tight = await doctor(['--json', '--nats-url', nats.url, '--nats-monitoring-url', nats.monitoringUrl]);
  expect(
    tight.findings.filter(({ level }) => level === 'warning').map(({ what, found }) => [what.split(', ')[1], found]),
  ).toEqual([
    ['max_payload', '8 KiB'],
    ['users', expect.any(String)],
    ['max_pending', '1 MiB'],
    ['write_deadline', '0.1 s'],
  ]);

  const server = createServer((socket) => void socket.end('SSH-2.0-x\r\n'));
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const foreign = await doctor(['--json', '--nats-url', `nats://127.0.0.1:${(server.address() as AddressInfo).port}`]);
  server.close();
  expect(problems(foreign.findings)).toMatchObject([
    { found: expect.stringContaining('SSH-2.0'), todo: expect.stringContaining('no NATS server') },
  ]);
});

test('a folder that cannot be written, and servers that are not installed', async () => {
  const { code, findings } = await doctor(['--json'], { CAUSEWAY_RUN_DIR: '/proc/causeway', PATH: '/nonexistent' });
  expect(code).toBe(1);
  expect(problems(findings).map(({ what }) => what)).toEqual(expect.arrayContaining(['folder /proc/causeway']));
});
