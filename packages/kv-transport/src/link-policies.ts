/** One codec policy per link: what was measured between this worker and one incarnation of another. */
import { CodecPolicy, type KvCodec } from '@causeway/kv';
import type { kvV1 } from '@causeway/proto';
import type { Ticket } from './types.ts';
import { codecFromProto } from './wire-types.ts';

const MAX_LINKS = 256;

export class LinkPolicies {
  readonly #codec: 'auto' | KvCodec;
  readonly #policies = new Map<string, CodecPolicy>();

  constructor(codec: 'auto' | KvCodec) {
    this.#codec = codec;
  }

  /** The policy towards the worker that gave the ticket. */
  of(ticket: Ticket): CodecPolicy {
    const key = `${ticket.workerId}/${ticket.incarnation}`;
    let policy = this.#policies.get(key);
    if (policy === undefined) {
      policy = new CodecPolicy({ accepted: ticket.acceptedCodecs, ...(this.#codec === 'auto' ? {} : { fixed: this.#codec }) });
      const oldest = this.#policies.keys().next();
      if (this.#policies.size >= MAX_LINKS && oldest.done !== true) this.#policies.delete(oldest.value);
      this.#policies.set(key, policy);
    }
    return policy;
  }
}

/** Feeds a policy with what the receiver measured. */
export function learnFromReceiver(policy: CodecPolicy, committed: kvV1.Committed): void {
  for (const cost of committed.decodeCosts) {
    const codec = codecFromProto(cost.codec);
    if (codec !== undefined) policy.decoded(codec, Number(cost.rawBytes), Number(cost.microseconds) / 1000);
  }
  policy.carried(Number(committed.bytesPerSecond), 1000);
}
