import { describe, expect, it } from 'vitest';
import { KvReport } from './kv-report.ts';

const decode = { id: 'decode-0', chip: 'cpu', emulated: false };
const prefill = { id: 'prefill-0', chip: 'ascend', emulated: true };
const used = {
  outcome: 'used' as const,
  rawBytes: 100,
  receivedBytes: 70,
  prefilledTokens: 0,
  prefillMs: 0,
  expertCalls: [],
  convertMs: 0,
};
const local = {
  outcome: 'local' as const,
  rawBytes: 0,
  receivedBytes: 0,
  prefilledTokens: 9,
  prefillMs: 4,
  expertCalls: [],
  convertMs: 0,
};
const times = { ttftMs: 1, handoffGapMs: 2 };

describe('KvReport', () => {
  it('counts what the sender counted, and says what is emulated', () => {
    const report = new KvReport();
    report.begin(decode, prefill);
    report.waited(5);
    report.ready(used);
    report.sent({
      rawBytes: 100,
      sentBytes: 60,
      codec: 'zstd',
      transferMs: 3,
      prefillMs: 4,
      queueMs: 2,
      expertCalls: [],
      convertMs: 0,
    });
    expect(report.toReport(times)).toMatchObject({
      outcome: 'used',
      bytes_raw: 100,
      bytes_sent: 60,
      codec: 'zstd',
      queue_ms: 7,
      prefill_chip: 'ascend (emulated)',
      decode_chip: 'cpu',
    });
  });

  it('falls back to what the receiver counted when the sender died after the commit', () => {
    const report = new KvReport();
    report.begin(decode, prefill);
    report.ready(used);
    expect(report.toReport(times)).toMatchObject({ outcome: 'used', bytes_raw: 100, bytes_sent: 70 });
  });

  it('says not_needed while no KV is in place, and local when the decode worker did it all', () => {
    const report = new KvReport();
    report.begin(decode, prefill);
    expect(report.toReport(times)).toMatchObject({ outcome: 'not_needed', bytes_sent: 0, prefill_worker: 'prefill-0' });
    const alone = new KvReport();
    alone.begin(decode, undefined);
    alone.ready(local);
    expect(alone.toReport(times)).toMatchObject({ outcome: 'local', prefill_worker: '' });
  });

  it('says recomputed when a local attempt follows a lost remote one', () => {
    const report = new KvReport();
    report.begin(decode, prefill);
    report.begin(decode, undefined);
    report.ready(local);
    expect(report.toReport(times)).toMatchObject({ outcome: 'recomputed', attempts: 2 });
  });
});
