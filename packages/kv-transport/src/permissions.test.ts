/** A NATS server that knows its workers: who may publish where. */
import { eventually, type NatsServer, startNats } from '@causeway/testkit';
import { connect } from 'nats';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { frameSubject, frameWildcard, subjectPermissions } from './subjects.ts';
import { makeDescriptor, makeWorker, smoothKv } from './test-workers.ts';

const WORKERS = [
  ['prefill', 'p0'],
  ['decode', 'd0'],
  ['decode', 'd1'],
] as const;
const access = (id: string) => ({ user: id, password: `secret of ${id}` });
const descriptor = makeDescriptor([{ kind: 'full', kvHeads: 2, headDimK: 32, headDimV: 32 }], 'f32', 16);

let nats: NatsServer;
beforeAll(async () => {
  const users = WORKERS.map(([role, id]) => {
    const { publish, subscribe } = subjectPermissions(role, id);
    return JSON.stringify({ ...access(id), permissions: { publish, subscribe } });
  });
  const probe = JSON.stringify({ user: 'probe', password: 'probe', permissions: { publish: [], subscribe: [] } });
  nats = await startNats({
    extraConfig: `authorization { users = [${[...users, probe].join(',')}] }`,
    login: { user: 'probe', password: 'probe' },
  });
});
afterAll(() => nats[Symbol.asyncDispose]());

const worker = (id: string) =>
  makeWorker({ servers: nats.url, workerId: id, access: access(id), codec: 'zstd', descriptor, pages: 8 });

describe('a NATS server with authorization', () => {
  test('lets KV through from a prefill to a decode worker, with the permissions that each needs', async () => {
    await using sender = await worker('p0');
    await using receiver = await worker('d0');
    const never = new AbortController().signal;
    using source = sender.pool.reserve(8) ?? expect.fail('no pages');
    using target = receiver.pool.reserve(8) ?? expect.fail('no pages');
    for (const page of source.pages) smoothKv(sender.pool.bytes(page), 'f32', page + 1);
    const inbound = receiver.endpoint.receive({ pages: target, tokens: 128, deadlineMs: 20_000, signal: never });
    const outbound = sender.endpoint.send({ ticket: inbound.ticket, pages: source, signal: never });
    const firstTokenDetail = Buffer.of(1, 0, 255);
    const [stats, committed] = await Promise.all([outbound.finish({ firstToken: 7, firstTokenDetail }), inbound.committed]);
    expect(committed).toMatchObject({ rawBytes: stats.rawBytes, firstToken: 7, firstTokenDetail, senderWorker: 'p0' });
  });

  test.each([
    ['a stranger', undefined],
    ['a wrong password', { user: 'd0', password: 'guessed' }],
  ])('refuses %s at once, and says what to check', async (_, wrong) => {
    const refused = makeWorker({
      servers: nats.url,
      workerId: 'd0',
      ...(wrong === undefined ? {} : { access: wrong }),
      codec: 'none',
      descriptor,
      pages: 8,
    });
    await expect(refused).rejects.toMatchObject({ reason: 'bad_config', message: expect.stringContaining('user and password') });
  });

  test('keeps a decode worker from sending frames to another, and from listening to them', async () => {
    await using receiver = await worker('d1');
    const to = { workerId: 'd1', incarnation: receiver.endpoint.incarnation };
    const thief = await connect({ servers: nats.url, user: 'd0', pass: 'secret of d0' });
    await using _thief = { [Symbol.asyncDispose]: () => thief.close() };
    const violations: string[] = [];
    void (async () => {
      for await (const status of thief.status()) violations.push(JSON.stringify(status.data));
    })();
    const heard: unknown[] = [];
    thief.subscribe(frameWildcard(to), { callback: (error, message) => void heard.push(error?.code ?? message) });
    thief.publish(frameSubject(to, 'ab'.repeat(16)), new Uint8Array(100));
    await thief.flush();
    await eventually(() => violations.length >= 2 || undefined, { what: 'two violations' });
    expect(receiver.endpoint.counters.framesReceived).toBe(0);

    const sender = await connect({ servers: nats.url, user: 'p0', pass: 'secret of p0' });
    await using _sender = { [Symbol.asyncDispose]: () => sender.close() };
    sender.publish(frameSubject(to, 'ab'.repeat(16)), new Uint8Array(100));
    await eventually(() => receiver.endpoint.counters.framesReceived === 1 || undefined, {
      what: 'the frame of a prefill worker',
    });
    expect(heard).toEqual(['PERMISSIONS_VIOLATION']);
  });
});
