/** Checks of NATS and Redis: reached, new enough, with limits that serve. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { ServiceError } from '@causeway/errors';
import { connectRedis, RegistryView, type WorkerRecord } from '@causeway/registry';
import { formatBytes } from '@causeway/topology';
import { z } from 'zod';
import { checkExperts } from './experts.ts';
import { type Finding, ok, problem, warning } from './finding.ts';
import type { ObservedProcess } from './processes.ts';

const TIMEOUT_MS = 5000;
/** Frames of KV are cut to fit; below this headers and round trips cost more than KV. */
const MIN_PAYLOAD = 65_536;
const MIN_NATS = [2, 9] as const;
const MIN_REDIS = 6;

/** The fields of a NATS server's INFO line (NATS client protocol) that matter here. */
const natsInfo = z.object({ version: z.string(), max_payload: z.number(), auth_required: z.boolean().default(false) });

/** What a NATS server says to every client before it knows who it is. */
export async function checkNats(url: string): Promise<Finding[]> {
  const what = `NATS at ${withoutSecrets(url)}`;
  let text: string;
  try {
    text = await firstLine(url);
  } catch (error) {
    return [problem(what, reason(error), 'start it, correct its address, or open its port (4222)')];
  }
  const body = /^INFO (\{.*\})/.exec(text)?.[1];
  const info = natsInfo.safeParse(body === undefined ? undefined : parseJson(body));
  if (!info.success) return [problem(what, `it answers "${text.slice(0, 60)}"`, 'this is no NATS server: correct the address')];
  const { version, max_payload: payload, auth_required: auth } = info.data;
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const findings =
    major > MIN_NATS[0] || (major === MIN_NATS[0] && minor >= MIN_NATS[1])
      ? [ok(what, `nats-server ${version}`)]
      : [problem(what, `nats-server ${version}`, `${MIN_NATS.join('.')} or newer is needed`)];
  findings.push(
    payload >= MIN_PAYLOAD
      ? ok(`${what}, max_payload`, formatBytes(payload))
      : warning(
          `${what}, max_payload`,
          formatBytes(payload),
          `set max_payload to 1MB: KV is cut into frames of at most this size`,
        ),
    auth
      ? ok(`${what}, users`, 'it asks who is there')
      : warning(
          `${what}, users`,
          'anybody who reaches it may publish KV',
          'give workers users of their own (docs/operations.md, NATS users)',
        ),
  );
  return findings;
}

/** Redis, the workers registered in it, and expert shards of their models. */
export async function checkRedis(
  url: string,
  namespace: string | undefined,
): Promise<{ findings: Finding[]; workers: readonly WorkerRecord[] | undefined; shards: readonly ObservedProcess[] }> {
  const what = `Redis at ${withoutSecrets(url)}`;
  try {
    await using redis = await connectRedis({ url, namespace, deadlineMs: TIMEOUT_MS });
    const version = /redis_version:(\S+)/.exec(await redis.client.info('server'))?.[1] ?? 'of unknown version';
    const policy = /maxmemory_policy:(\S+)/.exec(await redis.client.info('memory'))?.[1];
    await using view = new RegistryView({ redis });
    await view.loaded;
    const findings = [
      Number.parseInt(version, 10) < MIN_REDIS
        ? problem(what, `redis-server ${version}`, `${MIN_REDIS}.0 or newer is needed`)
        : ok(what, `redis-server ${version}`),
    ];
    if (policy?.startsWith('allkeys') === true) {
      findings.push(
        warning(
          `${what}, maxmemory-policy`,
          policy,
          'it may drop registrations of living workers: use volatile-ttl or noeviction',
        ),
      );
    }
    const { workers } = view.snapshot;
    const experts = await checkExperts(redis, [...new Set(workers.map(({ model }) => model))], TIMEOUT_MS);
    return { findings: [...findings, ...experts.findings], workers, shards: experts.shards };
  } catch (error) {
    const todo =
      error instanceof ServiceError && error.reason === 'bad_config'
        ? 'correct user, password and database in CAUSEWAY_REDIS_URL'
        : 'start it, correct its address, or open its port (6379)';
    return { findings: [problem(what, reason(error), todo)], workers: undefined, shards: [] };
  }
}

async function firstLine(url: string): Promise<string> {
  const { hostname, port } = new URL(url);
  const socket = connect({ host: hostname.replace(/^\[(.*)\]$/, '$1'), port: Number(port || 4222) });
  try {
    const [data] = (await once(socket, 'data', { signal: AbortSignal.timeout(TIMEOUT_MS) })) as [Buffer];
    return data.toString('latin1').split('\r\n')[0] ?? '';
  } finally {
    socket.destroy();
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function reason(error: unknown): string {
  if (error instanceof Error && error.name === 'AbortError') return `no answer within ${TIMEOUT_MS / 1000} s`;
  return error instanceof Error ? error.message : String(error);
}

function withoutSecrets(url: string): string {
  const parsed = URL.parse(url);
  return parsed === null ? 'a malformed URL' : parsed.host;
}
