import { formatBytes } from '@causeway/topology';
import type { Answer } from './stream-chat.ts';

/**
 * The one line after an answer: who read the prompt, what travelled how fast, who wrote, and how long the user waited.
 * `prefill (cpu) read 14 tokens → 11.2 KiB of KV in 3 ms over NATS, sent as 8.0 KiB (planes+zstd, 1.4× smaller) → decode (cpu) wrote 7 tokens; first token after 45 ms, then 98 tokens/s`
 */
export function summarizeAnswer(answer: Answer): string {
  return `${journey(answer)}; first token after ${milliseconds(answer.ttftMs)}${rate(answer)}`;
}

function journey({ kv, promptTokens, completionTokens }: Answer): string {
  const read = `read ${count(promptTokens, 'token')}`;
  const wrote = `wrote ${count(completionTokens, 'token')}`;
  const prefill = worker(kv.prefill_worker, kv.prefill_chip);
  const decode = worker(kv.decode_worker, kv.decode_chip);
  switch (kv.outcome) {
    case 'used':
    case 'partially_used': {
      const kept = kv.outcome === 'used' ? '' : ' (used in part)';
      return `${prefill} ${read} → ${travelled(answerBytes(kv.bytes_raw, kv.bytes_sent, kv.codec), kv.transfer_ms)}${kept} → ${decode} ${wrote}`;
    }
    case 'local':
      return `${decode} ${read} and ${wrote} itself: no KV had to travel`;
    case 'not_needed':
      return `${prefill} ${read} and ${wrote}: the answer was over before any KV was needed elsewhere`;
    case 'recomputed':
      return `${prefill} ${read}, its KV was lost on the way; ${decode} computed it again and ${wrote}`;
    default:
      return `${prefill} ${read}, ${decode} ${wrote} (KV ${kv.outcome})`;
  }
}

function travelled(what: string, ms: number): string {
  return `${what} in ${milliseconds(ms)} over NATS`;
}

function answerBytes(raw: number, sent: number, codec: string): string {
  if (codec === '' || codec === 'none' || sent === 0) return `${formatBytes(sent)} of KV, uncompressed,`;
  return `${formatBytes(sent)} of KV (${formatBytes(raw)} before ${codec}, ${(raw / sent).toFixed(2)}× smaller)`;
}

function worker(name: string, chip: string): string {
  if (name === '') return 'nobody';
  return chip === '' ? name : `${name} (${chip})`;
}

function rate({ completionTokens, restMs }: Answer): string {
  if (completionTokens < 2 || restMs <= 0) return '';
  return `, then ${Math.round(((completionTokens - 1) * 1000) / restMs)} tokens/s`;
}

function count(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? '' : 's'}`;
}

function milliseconds(ms: number): string {
  if (ms >= 10_000) return `${(ms / 1000).toFixed(1)} s`;
  return ms >= 10 ? `${Math.round(ms)} ms` : `${ms.toFixed(1)} ms`;
}
