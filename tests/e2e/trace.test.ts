/** One request is one OpenTelemetry trace over three processes, taken by an OTLP/HTTP receiver; without an endpoint nothing is sent. */
import { type Cluster, eventually, freePort, startCluster } from '@causeway/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { attribute, type Span, TraceReceiver } from './trace-receiver.ts';

const receiver = new TraceReceiver();
const { spans } = receiver;
let cluster: Cluster;

beforeAll(async () => {
  const traced = { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: await receiver.listen() };
  cluster = await startCluster({
    model: 'models/tiny-moe',
    router: true,
    workerEnv: { ...traced, CAUSEWAY_MAX_CONTEXT: '2048' },
    env: { router: { ...traced, CAUSEWAY_PLACEMENT: 'disaggregated' } },
  });
}, 120_000);
afterAll(async () => {
  await cluster[Symbol.asyncDispose]();
  await receiver[Symbol.asyncDispose]();
});

function ask(content: string, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(`http://${cluster.router.http}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ model: 'tiny-moe', messages: [{ role: 'user', content }], temperature: 0, max_tokens: 16 }),
  });
}

describe('traces', () => {
  it('show queue, prefill chunks, transfer, handoff and decode of one request', async () => {
    const traceId = '4bf92f3577b34da6a3ce929d0e0e4736';
    const long = `Read these notes. ${'Mia put the map in the garden. '.repeat(60)}Who are you?`;
    const response = await ask(long, { traceparent: `00-${traceId}-00f067aa0ba902b7-01` });
    expect(response.status).toBe(200);
    const { usage } = (await response.json()) as {
      usage: { prompt_tokens: number; completion_tokens: number; causeway: { bytes_sent: number } };
    };
    const trace = await receiver.traceOf(traceId, 14);
    const named = (name: string, service: string): Span[] =>
      trace.filter((span) => span.name === name && span.service === `causeway-${service}`);
    const one = (name: string, service: string): Span => {
      const [span, ...others] = named(name, service);
      expect(others, name).toEqual([]);
      expect(
        span,
        `${name} of ${service} among ${trace.map((other) => `${other.service}:${other.name}`).join(', ')}`,
      ).toBeDefined();
      return span as Span;
    };
    const root = one('POST /v1/chat/completions', 'router');
    const attempt = one('attempt', 'router');
    const prefill = one('prefill', 'prefill');
    const decode = one('decode', 'decode');
    expect(root.parentSpanId).toBe('00f067aa0ba902b7');
    const parents: [Span, Span][] = [
      [one('queue', 'router'), root],
      [one('handoff', 'router'), root],
      [attempt, root],
      [one('reserve', 'router'), attempt],
      [prefill, attempt],
      [decode, attempt],
      [one('reserve', 'prefill'), prefill],
      [one('prefill.queue', 'prefill'), prefill],
      [one('kv.send', 'prefill'), prefill],
      ...named('prefill.chunk', 'prefill').map((chunk): [Span, Span] => [chunk, prefill]),
      [one('reserve', 'decode'), decode],
      [one('kv.receive', 'decode'), decode],
      [one('decode.steps', 'decode'), decode],
    ];
    for (const [child, parent] of parents) {
      expect(child.parentSpanId, child.name).toBe(parent.spanId);
      expect(BigInt(child.endTimeUnixNano)).toBeGreaterThanOrEqual(BigInt(child.startTimeUnixNano));
    }
    const chunks = named('prefill.chunk', 'prefill');
    expect(chunks.length).toBeGreaterThan(1);
    const tokens = chunks.reduce((sum, chunk) => sum + Number(attribute(chunk, 'causeway.tokens')), 0);
    expect(tokens).toBe(usage.prompt_tokens);
    expect(attribute(one('kv.send', 'prefill'), 'causeway.kv.bytes_sent')).toBe(usage.causeway.bytes_sent);
    expect(attribute(root, 'gen_ai.usage.output_tokens')).toBe(usage.completion_tokens);
    expect(attribute(root, 'causeway.kv.outcome')).toBe('used');
  });

  it('say what failed, and begin anew when the header is no trace', async () => {
    const before = new Set(spans.map(({ traceId }) => traceId));
    const response = await fetch(`http://${cluster.router.http}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', traceparent: 'zz-nonsense' },
      body: '{"model":"other","messages":[{"role":"user","content":"x"}]}',
    });
    expect(response.status).toBe(404);
    await eventually(() => Promise.resolve(spans.some(({ traceId }) => !before.has(traceId))), { what: 'the failed request' });
    const failed = spans.find(({ traceId }) => !before.has(traceId)) as Span;
    expect(failed.traceId).toMatch(/^[0-9a-f]{32}$/);
    expect(failed.status.code).toBe(2);
  });

  it('are not sent when the caller decided against it', async () => {
    const traceId = '0af7651916cd43dd8448eb211c80319c';
    expect((await ask('Who are you?', { traceparent: `00-${traceId}-b7ad6b7169203331-00` })).status).toBe(200);
    const later = '1af7651916cd43dd8448eb211c80319c';
    expect((await ask('Who are you?', { traceparent: `00-${later}-b7ad6b7169203331-01` })).status).toBe(200);
    await receiver.traceOf(later, 13);
    expect(spans.filter((span) => span.traceId === traceId)).toEqual([]);
  });

  it('hold nothing up when nobody takes them', async () => {
    const endpoint = `http://127.0.0.1:${await freePort()}/v1/traces`;
    const router = await cluster.startRouter({ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: endpoint });
    expect((await ask('Who are you?')).status).toBe(200);
    await router.process.waitForLog((line) => String(line['msg']).startsWith('traces:'));
    expect((await ask('Who are you?')).status).toBe(200);
    expect(await router.process.stop()).toEqual({ code: 0, signal: null });
  });
});
