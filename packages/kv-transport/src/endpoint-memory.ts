/** Frame slots, codec threads and credits of an endpoint, and their end. */
import { CodecPool, type KvDescriptor, SlotArena, wireMemories } from '@causeway/kv';
import type { EndpointContext, TransportLog } from './context.ts';
import { newCounters } from './counters.ts';
import { CreditBudget } from './credit.ts';
import type { KvEndpointOptions } from './endpoint-options.ts';
import { FRAME_HEADER_BYTES } from './frame.ts';
import { LinkMeters } from './link-meter.ts';

const DEFAULT_BUDGET = 16 << 20;
const MAX_SLOTS = 1024;
const MIN_SLOTS = 4;

export interface EndpointMemory extends AsyncDisposable {
  context: EndpointContext;
}

/** Makes what an endpoint's transfers share. Dispose it after the last transfer has settled. */
export function createEndpointMemory(
  options: KvEndpointOptions & { descriptor: KvDescriptor; log: TransportLog },
  partBytes: number,
  signal: AbortSignal,
  link: Pick<EndpointContext, 'rttMs' | 'flushBulk'>,
): EndpointMemory {
  const { pool, descriptor, fingerprint, log } = options;
  const budget = options.budgetBytes ?? DEFAULT_BUDGET;
  const slotBytes = FRAME_HEADER_BYTES + partBytes;
  const slots = Math.min(MAX_SLOTS, Math.max(MIN_SLOTS, Math.floor(budget / slotBytes)));
  const inbound = new SlotArena(slotBytes, slots);
  const outbound = new SlotArena(slotBytes, slots);
  const codecs = options.codecs ?? new CodecPool(options.codecThreads === undefined ? {} : { threads: options.codecThreads });
  if (options.codec !== 'none') codecs.warm();
  const memories = wireMemories({ pool, descriptor, codecs, places: options.places });
  const context: EndpointContext = {
    descriptor,
    fingerprint,
    counters: newCounters(),
    log,
    codecs,
    credits: new CreditBudget({ budgetBytes: budget }),
    links: new LinkMeters(),
    inboundArena: { arena: inbound, region: codecs.register(inbound.buffer) },
    outboundArena: { arena: outbound, region: codecs.register(outbound.buffer) },
    signal,
    silenceMs: options.silenceMs ?? 20_000,
    ...link,
    memories,
    lossy: options.lossy ?? false,
    rounded: options.rounded,
  };
  return {
    context,
    [Symbol.asyncDispose]: async () => {
      await codecs[Symbol.asyncDispose]();
      inbound[Symbol.dispose]();
      outbound[Symbol.dispose]();
      memories[Symbol.dispose]();
    },
  };
}
