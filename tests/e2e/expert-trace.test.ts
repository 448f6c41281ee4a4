/** What one request shows of its experts elsewhere: a span for each layer and step when it is traced, and its calls by shard always. */
import { startCluster } from '@causeway/testkit';
import { expect, it } from 'vitest';
import { attribute, type Span, TraceReceiver } from './trace-receiver.ts';

const LAYERS = [1, 2, 3, 4];
const EXPERTS_PER_TOKEN = 4;

it('a traced request has a span for each layer of experts of each step, and every answer says which shard was asked how often', async () => {
  await using receiver = new TraceReceiver();
  const traced = { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: await receiver.listen() };
  await using cluster = await startCluster({
    model: 'models/tiny-moe',
    router: true,
    expert: 2,
    workerEnv: traced,
    env: { router: { ...traced, CAUSEWAY_PLACEMENT: 'disaggregated' } },
  });
  const traceId = '5bf92f3577b34da6a3ce929d0e0e4736';
  const response = await fetch(`http://${cluster.router.http}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', traceparent: `00-${traceId}-00f067aa0ba902b7-01` },
    body: JSON.stringify({
      model: 'tiny-moe',
      messages: [{ role: 'user', content: 'Who are you?' }],
      temperature: 0,
      max_tokens: 9,
    }),
  });
  expect(response.status).toBe(200);
  const { usage } = (await response.json()) as {
    usage: { prompt_tokens: number; completion_tokens: number; causeway: { expert_calls: Record<string, number> } };
  };
  // The last token is given and not read.
  const read = usage.prompt_tokens + usage.completion_tokens - 1;
  expect(Object.keys(usage.causeway.expert_calls).sort()).toEqual(['expert-1', 'expert-2']);
  const calls = Object.values(usage.causeway.expert_calls).reduce((a, b) => a + b, 0);
  expect(calls).toBe(read * LAYERS.length * EXPERTS_PER_TOKEN);

  const steps = usage.completion_tokens - 1;
  const trace = await receiver.traceOf(traceId, 13 + LAYERS.length * (1 + steps));
  const named = (name: string): Span[] => trace.filter((span) => span.name === name);
  const under = (parent: string): Span[] => {
    const id = named(parent)[0]?.spanId;
    return named('moe.layer').filter(({ parentSpanId }) => parentSpanId === id);
  };
  const layersOf = (spans: Span[]): unknown[] => spans.map((span) => attribute(span, 'causeway.layer'));
  expect(layersOf(under('prefill'))).toEqual(LAYERS);
  expect(attribute(under('prefill')[0], 'causeway.tokens')).toBe(usage.prompt_tokens);
  const decoded = under('decode.steps').sort((a, b) => Number(BigInt(a.startTimeUnixNano) - BigInt(b.startTimeUnixNano)));
  expect(layersOf(decoded)).toEqual(Array.from({ length: steps }, () => LAYERS).flat());
  for (const span of decoded) {
    const ms = Number(BigInt(span.endTimeUnixNano) - BigInt(span.startTimeUnixNano)) / 1e6;
    const parts = ['network', 'queue', 'compute'].map((part) => Number(attribute(span, `causeway.${part}_ms`)));
    expect(parts.every((part) => part >= 0)).toBe(true);
    expect(parts.reduce((a, b) => a + b, 0)).toBeLessThanOrEqual(ms + 0.1);
  }
}, 120_000);
