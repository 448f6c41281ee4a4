import { describe, expect, it } from 'vitest';
import { answerJson, choiceJson, streamEvents } from './responses.ts';
import { type CausewayReport, kvHeader, usageObject } from './usage.ts';

const report: CausewayReport = {
  outcome: 'used',
  bytes_raw: 100,
  bytes_sent: 60,
  codec: 'planes+zstd',
  transfer_ms: 1.23456,
  prefill_ms: 2,
  queue_ms: 0,
  ttft_ms: 3,
  handoff_gap_ms: 1,
  prefill_worker: 'prefill-0',
  prefill_chip: 'cpu',
  decode_worker: 'decode;0\r\n',
  decode_chip: 'cpu',
  attempts: 1,
  preemptions: 0,
  prefill_storage: 'bf16 NHD 16',
  decode_storage: 'bf16 NZ 128',
  wire_dtype: 'bf16',
  rounded: false,
  convert_ms: 0,
};
const usage = usageObject(3, 4, report);
const head = { id: 'chatcmpl-1', created: 1, model: 'm' };

function data(event: string): Record<string, unknown> {
  expect(event.startsWith('data: ') && event.endsWith('\n\n')).toBe(true);
  return JSON.parse(event.slice(6)) as Record<string, unknown>;
}

describe('streamEvents', () => {
  it('puts usage with the KV report into the chunk that has a finish_reason', () => {
    const events = streamEvents('chat', head, false);
    expect(data(events.text(0, 'a\nb'))).not.toHaveProperty('usage');
    expect(data(events.finish(2, 'stop', usage))).toMatchObject({
      choices: [{ index: 2, delta: {}, finish_reason: 'stop' }],
      usage: { total_tokens: 7, causeway: { outcome: 'used' } },
    });
  });

  it('marks usage null on other chunks when usage was asked for', () => {
    const events = streamEvents('completion', { ...head, id: 'cmpl-1' }, true);
    expect(events.start(0)).toBe('');
    expect(data(events.text(0, 'x'))).toMatchObject({ usage: null, choices: [{ text: 'x', finish_reason: null }] });
    expect(data(events.usage(usage))).toMatchObject({ choices: [], usage: { completion_tokens: 4 } });
  });
});

describe('answerJson', () => {
  it('has the form of the endpoint', () => {
    expect(JSON.parse(answerJson('chat', head, [choiceJson('chat', 0, 'hi', 'length', null)], usage))).toMatchObject({
      object: 'chat.completion',
      choices: [{ message: { role: 'assistant', content: 'hi' }, logprobs: null, finish_reason: 'length' }],
      usage: { total_tokens: 7 },
    });
    const two = [1, 0].map((index) => choiceJson('completion', index, 'hi', 'stop', '{"tokens":[]}'));
    expect(JSON.parse(answerJson('completion', head, two, usage))).toMatchObject({
      object: 'text_completion',
      choices: [
        { index: 1, text: 'hi', logprobs: { tokens: [] } },
        { index: 0, text: 'hi' },
      ],
    });
  });
});

describe('kvHeader', () => {
  it('is one clean line whatever workers are called', () => {
    expect(kvHeader(report)).toBe(
      'outcome=used; raw=100; sent=60; codec=planes+zstd; ms=1.235; prefill=prefill-0; decode=decode_0__; attempts=1',
    );
  });
});
