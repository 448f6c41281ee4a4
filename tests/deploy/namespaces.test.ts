/** Two clusters with the same names on one NATS and one Redis: their namespaces keep them apart. */
import { join } from 'node:path';
import { natsAccount, natsUsers, parseTopology, renderNatsConfig, renderProcesses, type Topology } from '@causeway/topology';
import { eventually, startNats, startProcess, startRedis } from '@causeway/testkit';
import { Redis } from 'ioredis';
import { connect, StringCodec } from 'nats';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ROOT } from './manifests.ts';

const MODEL = join(ROOT, 'models/tiny-moe');
const ANSWER = 'The capital of France is Paris.';

function topology(namespace: string): Topology {
  return parseTopology(
    `version: 1\nnamespace: ${namespace}\npools:\n  - {name: p, role: prefill}\n  - {name: d, role: decode}\n  - {name: e, role: expert}`,
    't.yaml',
  );
}

describe('namespaces', () => {
  const stack = new AsyncDisposableStack();
  const urls = new Map<string, string>();
  let natsUrl: string;
  let redisUrl: string;

  beforeAll(async () => {
    const specs = (namespace: string) =>
      renderProcesses(topology(namespace), {
        models: new Map([['tiny-moe', { name: 'tiny-moe', path: MODEL }]]),
        machineCores: 1,
        natsUrl,
        natsMonitoringUrl: '',
        natsPassword: (worker) => `${namespace}-${worker}`,
        redisUrl,
        host: '127.0.0.1',
        advertiseHost: () => '127.0.0.1',
        ports: () => ({ rpc: 0, observability: 0, http: 0, grpc: 0 }),
      });
    natsUrl = redisUrl = '';
    const account = (namespace: string): string[] => {
      const spy = [`    { user: "${namespace}-spy", password: "spy" },`];
      const [first = '', ...users] = natsUsers(namespace, specs(namespace), (worker) => JSON.stringify(`${namespace}-${worker}`));
      return natsAccount(namespace, [first, ...spy, ...users]);
    };
    const accounts = ['accounts {', ...account('blue'), ...account('green'), '}'].join('\n');
    const nats = stack.use(await startNats({ extraConfig: accounts, login: { user: 'blue-spy', password: 'spy' } }));
    const redis = stack.use(await startRedis());
    [natsUrl, redisUrl] = [nats.url, redis.url];
    const start = async (namespace: string): Promise<void> => {
      // Each after what it waits for.
      const order = ['expert', 'prefill', 'decode', 'router'];
      for (const spec of specs(namespace).toSorted((a, b) => order.indexOf(a.role) - order.indexOf(b.role))) {
        const process = stack.use(startProcess({ script: join(ROOT, spec.entry), env: spec.env }));
        const ready = await process.waitForLog((line) => line['msg'] === 'ready', 60_000);
        if (spec.role === 'router') urls.set(namespace, `http://${String(ready['http'])}`);
      }
    };
    await Promise.all([start('blue'), start('green')]);
    for (const url of urls.values())
      await eventually(async () => (await fetch(`${url}/readyz`)).ok, { what: 'a router that sees its workers' });
  }, 180_000);

  afterAll(() => stack.disposeAsync());

  test('each cluster answers, and no frame of one is heard in the other', async () => {
    const spies = await Promise.all(
      ['blue', 'green'].map(async (namespace) => {
        const connection = await connect({ servers: natsUrl, user: `${namespace}-spy`, pass: 'spy' });
        const heard: string[] = [];
        connection.subscribe('causeway.>', { callback: (_error, message) => void heard.push(message.subject) });
        await connection.flush();
        return { connection, heard };
      }),
    );
    const [blue, green] = spies;
    const client = new OpenAI({ baseURL: `${urls.get('blue')}/v1`, apiKey: 'none', maxRetries: 0 });
    const request = {
      model: 'tiny-moe',
      messages: [{ role: 'user' as const, content: 'What is the capital of France?' }],
      temperature: 0,
      causeway: { placement: 'disaggregated' },
    };
    const answer = await client.chat.completions.create(request);
    expect(answer.choices[0]?.message.content).toBe(ANSWER);
    await Promise.all(spies.map(({ connection }) => connection.flush()));
    expect(blue?.heard.some((subject) => subject.startsWith('causeway.v1.kv.d.'))).toBe(true);
    expect(green?.heard).toEqual([]);
    // Nor can one be spoken to from the other: what green publishes, blue's workers and spy don't get.
    const before = blue?.heard.length;
    green?.connection.publish(blue?.heard[0] ?? '', StringCodec().encode('forged'));
    await Promise.all(spies.map(({ connection }) => connection.flush()));
    expect(blue?.heard).toHaveLength(before ?? -1);
    const other = new OpenAI({ baseURL: `${urls.get('green')}/v1`, apiKey: 'none', maxRetries: 0 });
    expect((await other.chat.completions.create(request)).choices[0]?.message.content).toBe(ANSWER);
    for (const { connection } of spies) await connection.close();
  });

  test('each sees its own workers in Redis, under keys of its own', async () => {
    const client = new Redis(redisUrl);
    const keys = (await client.keys('*')).filter((key) => !key.includes(':expert'));
    const ofExperts = await client.keys('*:expert*');
    client.disconnect();
    for (const namespace of ['blue', 'green'])
      expect(
        ofExperts.some((key) => key.startsWith(`${namespace}:`)),
        namespace,
      ).toBe(true);
    expect(ofExperts.filter((key) => !/^(blue|green):causeway:v1:/.test(key))).toEqual([]);
    expect(new Set(keys)).toEqual(
      new Set(
        ['blue', 'green'].flatMap((namespace) =>
          ['workers', 'worker:p', 'worker:d'].map((key) => `${namespace}:causeway:v1:${key}`),
        ),
      ),
    );
  });
});

test('a topology with a namespace has an account at NATS, one without has none', () => {
  const options = { listen: '127.0.0.1:1', http: '127.0.0.1:2', password: () => '"x"' };
  expect(renderNatsConfig(topology('blue'), [], options)).toMatch(/accounts \{\n {2}"blue" \{/);
  expect(() => topology('No Spaces')).toThrow('lower-case');
});
