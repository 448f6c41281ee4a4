import { expect, test } from 'vitest';
import type { Answer } from './stream-chat.ts';
import { summarizeAnswer } from './summary.ts';

function answer(kv: Partial<Answer['kv']>, rest: Partial<Answer> = {}): Answer {
  return {
    text: 'x',
    finishReason: 'stop',
    promptTokens: 11,
    completionTokens: 9,
    ttftMs: 45.2,
    restMs: 100,
    ...rest,
    kv: {
      outcome: 'used',
      bytes_raw: 20_480,
      bytes_sent: 14_131,
      codec: 'planes+zstd',
      transfer_ms: 3.14,
      ttft_ms: 40,
      prefill_worker: 'prefill',
      prefill_chip: 'cpu',
      decode_worker: 'decode',
      decode_chip: 'cpu',
      ...kv,
    },
  };
}

test.each<[string, Answer, string]>([
  [
    'compressed',
    answer({}),
    'prefill (cpu) read 11 tokens and sent 13.8 KiB of KV cache (1.45× smaller than its 20 KiB, by planes+zstd) over NATS in 3.1 ms to decode (cpu), which wrote 9 tokens; first token after 45 ms, then 80 tokens/s',
  ],
  [
    'uncompressed',
    answer({ codec: 'none' }),
    'prefill (cpu) read 11 tokens and sent 13.8 KiB of KV cache (uncompressed) over NATS in 3.1 ms to decode (cpu), which wrote 9 tokens; first token after 45 ms, then 80 tokens/s',
  ],
  [
    'local',
    answer({ outcome: 'local', prefill_worker: '', codec: '', bytes_sent: 0 }),
    'decode (cpu) read 11 tokens and wrote 9 tokens itself: no KV had to travel; first token after 45 ms, then 80 tokens/s',
  ],
  [
    'over at its first token',
    answer({ outcome: 'not_needed' }, { completionTokens: 1 }),
    'prefill (cpu) read 11 tokens and wrote 1 token: the answer was over before any KV was needed elsewhere; first token after 45 ms',
  ],
  [
    'recomputed',
    answer({ outcome: 'recomputed' }),
    'prefill (cpu) read 11 tokens, its KV was lost on the way; decode (cpu) computed it again and wrote 9 tokens; first token after 45 ms, then 80 tokens/s',
  ],
])('an answer whose KV was %s reads as one sentence', (_what, value, expected) => {
  expect(summarizeAnswer(value)).toBe(expected);
});
