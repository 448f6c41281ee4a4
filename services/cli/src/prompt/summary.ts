import { formatBytes } from '@causeway/topology';
import type { Answer } from './stream-chat.ts';

/**
 * The one line after an answer: who read the prompt, what travelled how fast, who wrote, and how long the user waited.
 * `prefill (cpu) read 14 tokens and sent 8.0 KiB of KV cache (1.40× smaller than its 11.2 KiB, by planes+zstd) over NATS in 3.1 ms
 * to decode (cpu), which wrote 7 tokens; first token after 45 ms, then 98 tokens/s`, on one line.
 */
export function summarizeAnswer(answer: Answer): string {
  return `${journey(answer)}${experts(answer)}; first token after ${milliseconds(answer.ttftMs)}${rate(answer)}`;
}

function journey({ kv, promptTokens, completionTokens }: Answer): string {
  const read = `read ${count(promptTokens, 'token')}`;
  const wrote = `wrote ${count(completionTokens, 'token')}`;
  const prefill = worker(kv.prefill_worker, kv.prefill_chip);
  const decode = worker(kv.decode_worker, kv.decode_chip);
  switch (kv.outcome) {
    case 'used':
    case 'partially_used': {
      const kept = kv.outcome === 'used' ? '' : ', part of which was used';
      return `${prefill} ${read} and sent ${cache(kv)} over NATS in ${milliseconds(kv.transfer_ms)} to ${decode}${kept}, which ${wrote}`;
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

function experts({ kv }: Answer): string {
  const shards = Object.entries(kv.expert_calls ?? {});
  if (shards.length === 0) return '';
  return `, calling experts of ${shards.map(([shard, calls]) => `${shard} ${count(calls, 'time')}`).join(' and of ')}`;
}

function cache(kv: Answer['kv']): string {
  if (kv.codec === '' || kv.codec === 'none' || kv.bytes_sent === 0)
    return `${formatBytes(kv.bytes_sent)} of KV cache (uncompressed)`;
  const ratio = (kv.bytes_raw / kv.bytes_sent).toFixed(2);
  return `${formatBytes(kv.bytes_sent)} of KV cache (${ratio}× smaller than its ${formatBytes(kv.bytes_raw)}, by ${kv.codec})`;
}

function worker(name: string, chip: string): string {
  if (name === '') return 'nobody';
  // A chip that is imitated is called `nvidia (emulated)`.
  return chip === '' ? name : `${name} (${chip.replace(/ \((.*)\)$/, ', $1')})`;
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
