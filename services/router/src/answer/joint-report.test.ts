import type { CausewayReport } from '@causeway/openai';
import { describe, expect, it } from 'vitest';
import { jointReport } from './joint-report.ts';

const report: CausewayReport = {
  outcome: 'used',
  bytes_raw: 100,
  bytes_sent: 60,
  codec: 'zstd',
  transfer_ms: 1,
  prefill_ms: 2,
  queue_ms: 3,
  ttft_ms: 9,
  handoff_gap_ms: 1,
  prefill_worker: 'prefill-0',
  prefill_chip: 'cpu',
  decode_worker: 'decode-0',
  decode_chip: 'cpu',
  attempts: 1,
  preemptions: 0,
  prefill_storage: 'bf16 HND 64',
  decode_storage: 'bf16 NZ 128',
  wire_dtype: 'bf16',
  rounded: false,
  convert_ms: 2,
};

describe('jointReport', () => {
  it('of one prompt is its own', () => {
    expect(jointReport([report])).toBe(report);
  });

  it('sums what was moved and names each worker once', () => {
    const local = {
      ...report,
      outcome: 'local' as const,
      bytes_raw: 0,
      bytes_sent: 0,
      codec: '',
      prefill_worker: '',
      prefill_chip: '',
    };
    const other = { ...report, rounded: true, ttft_ms: 4, handoff_gap_ms: 7, decode_worker: 'decode-1', attempts: 2 };
    expect(jointReport([report, other, local])).toEqual({
      outcome: 'partially_used',
      bytes_raw: 200,
      bytes_sent: 120,
      codec: 'zstd',
      transfer_ms: 3,
      prefill_ms: 6,
      queue_ms: 9,
      ttft_ms: 4,
      handoff_gap_ms: 7,
      prefill_worker: 'prefill-0',
      prefill_chip: 'cpu',
      decode_worker: 'decode-0,decode-1',
      decode_chip: 'cpu',
      attempts: 4,
      preemptions: 0,
      prefill_storage: 'bf16 HND 64',
      decode_storage: 'bf16 NZ 128',
      wire_dtype: 'bf16',
      rounded: true,
      convert_ms: 6,
    });
  });

  it.each([
    [['local', 'local'], 'local'],
    [['not_needed', 'recomputed', 'local'], 'recomputed'],
    [['not_needed', 'used'], 'partially_used'],
    [['not_needed', 'not_needed'], 'not_needed'],
  ] as const)('%j are %s', (outcomes, joint) => {
    expect(jointReport(outcomes.map((outcome) => ({ ...report, outcome }))).outcome).toBe(joint);
  });
});
