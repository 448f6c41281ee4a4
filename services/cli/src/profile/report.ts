/** A profile for people. */
import type { WorkerProfile } from '@causeway/registry';
import { formatBytes } from '@causeway/topology';
import { table } from '../terminal/table.ts';

const rate = (bytesPerSecond: number | undefined): string =>
  bytesPerSecond === undefined ? '-' : `${(bytesPerSecond / 1e6).toFixed(1)} MB/s`;

/** Lines of a readable report. */
export function profileLines(profile: WorkerProfile): string[] {
  const { worker, role, model, chip, storage, kvBytesPerToken, prefill, decode, links } = profile;
  const lines = [`${worker}: ${role}, ${model}, ${chip}, KV ${storage}, ${formatBytes(kvBytesPerToken)} a token`];
  if (prefill.length > 0) {
    const rows = prefill.map(({ tokens, seconds }) => [String(tokens), seconds.toFixed(3), (tokens / seconds).toFixed(0)]);
    lines.push('', ...table(['PROMPT TOKENS', 'PREFILL, S', 'TOKENS/S'], rows));
  }
  if (decode.length > 0) {
    const rows = decode.map(({ batch, context, stepMs }) => [
      String(batch),
      String(context),
      stepMs.toFixed(1),
      ((1000 * batch) / stepMs).toFixed(0),
    ]);
    lines.push('', ...table(['SEQUENCES', 'CONTEXT', 'DECODE STEP, MS', 'TOKENS/S'], rows));
  }
  if (links.length > 0) {
    const rows = links.map(({ to, bytesPerSecond, roundTripMs, wire, codec, tokens, transferMs, rawBytes, sentBytes }) => [
      to,
      rate(bytesPerSecond),
      roundTripMs === undefined ? '-' : roundTripMs.toFixed(1),
      wire,
      codec,
      `${tokens} tokens in ${transferMs.toFixed(0)} ms, ${formatBytes(rawBytes)} as ${formatBytes(sentBytes)}`,
    ]);
    lines.push('', ...table(['KV TO', 'BANDWIDTH', 'ROUND TRIP, MS', 'AS', 'CODEC', 'LAST TRANSFER'], rows));
    const codecs = links.flatMap(({ to, codecs: own = [] }) =>
      own.map(({ codec, ratio, encodeBytesPerSecond, decodeBytesPerSecond }) => [
        to,
        codec,
        ratio.toFixed(2),
        rate(encodeBytesPerSecond),
        rate(decodeBytesPerSecond),
      ]),
    );
    if (codecs.length > 0) lines.push('', ...table(['KV TO', 'CODEC', 'RATIO', 'ENCODE', 'DECODE'], codecs));
  }
  return lines;
}

/** One line of `status`: what a worker does at its longest prompt and its largest batch. */
export function profileSummary({ prefill, decode, kvBytesPerToken }: WorkerProfile): string {
  const longest = prefill.at(-1);
  const largest = decode.at(-1);
  return [
    ...(longest === undefined ? [] : [`prefill ${(longest.tokens / longest.seconds).toFixed(0)} tokens/s of ${longest.tokens}`]),
    ...(largest === undefined
      ? []
      : [`decode ${largest.stepMs.toFixed(1)} ms with ${largest.batch} after ${largest.context} tokens`]),
    `KV ${formatBytes(kvBytesPerToken)} a token`,
  ].join(', ');
}
