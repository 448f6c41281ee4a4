/** What senders say, built from their state. */
import type { KvWireForm } from '@causeway/kv';
import type { EndpointContext } from './context.ts';
import type { SenderMessage } from './control.ts';
import type { OfferedObjects } from './offered-objects.ts';
import type { PartTable } from './part-table.ts';
import type { Incarnation } from './subjects.ts';
import type { FirstTokenOptions } from './types.ts';
import { descriptorToProto, wireFormToProto } from './wire-types.ts';

/** Hello: who sends, how it cuts parts, what its KV is. */
export function openMessage(
  self: Incarnation & { chip: string },
  table: PartTable,
  wire: KvWireForm,
  context: EndpointContext,
): SenderMessage {
  return {
    $case: 'open',
    value: {
      workerId: self.workerId,
      incarnation: self.incarnation,
      partBytes: table.partBytes,
      fingerprint: { ...context.fingerprint },
      descriptor: descriptorToProto(context.descriptor),
      chip: self.chip,
      rttUs: Math.round(context.rttMs() * 1000),
      wire: wireFormToProto(wire),
    },
  };
}

/** How far the sender is; `publishedBytes` are raw. */
export function progressMessage(offered: OfferedObjects, publishedBytes: number, wantMissing: boolean): SenderMessage {
  return {
    $case: 'progress',
    value: {
      offeredBytes: BigInt(offered.bytes),
      publishedBytes: BigInt(publishedBytes),
      wantMissing,
      finishedLayers: offered.finishedLayers,
    },
  };
}

/** The whole transfer in one hash. */
export function manifestMessage(
  table: PartTable,
  digest: Uint8Array,
  sentBytes: number,
  first: FirstTokenOptions,
): SenderMessage {
  return {
    $case: 'manifest',
    value: {
      rawBytes: BigInt(table.totalBytes),
      digest,
      parts: table.partCount,
      ...first,
      sentBytes: BigInt(sentBytes),
    },
  };
}
