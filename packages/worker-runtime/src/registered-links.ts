import type { LinkState } from '@causeway/kv-transport';
import { MAX_LINKS, type WorkerLink } from '@causeway/registry';

/** Significant digits of a bandwidth: more would only be written to Redis again and again. */
const DIGITS = 2;

/** What a worker tells of the links that it sends KV over, the last used first. */
export function registeredLinks(links: readonly LinkState[]): { links?: WorkerLink[] } {
  if (links.length === 0) return {};
  return {
    links: links.slice(0, MAX_LINKS).map(({ workerId, bytesPerSecond, wire, codec, roundTripMs, figures }) => ({
      to: workerId,
      ...(bytesPerSecond === undefined ? {} : { bytesPerSecond: rounded(bytesPerSecond) }),
      wire,
      codec: codec.codec,
      reason: codec.reason.slice(0, 512),
      ...(roundTripMs === undefined ? {} : { roundTripMs: rounded(roundTripMs) }),
      codecs: figures.map(({ codec: name, ratio, encodeRate, decodeRate }) => ({
        codec: name,
        ratio: rounded(ratio, DIGITS + 1),
        encodeBytesPerSecond: rounded(encodeRate * 1000),
        ...(decodeRate === undefined ? {} : { decodeBytesPerSecond: rounded(decodeRate * 1000) }),
      })),
    })),
  };
}

function rounded(value: number, digits = DIGITS): number {
  return Number(value.toPrecision(digits));
}
