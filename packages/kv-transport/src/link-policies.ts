/**
 * What a sender knows of its links: bandwidth of the way to one incarnation of another worker, codec policy for each form in which KV
 * travels there. How codecs do on this worker's KV is known once for all links.
 */
import { type CodecDecision, type CodecFigures, CodecMeasures, CodecPolicy, type KvCodec, type KvDtype } from '@causeway/kv';
import { LinkRate } from './link-rate.ts';
import type { Ticket } from './types.ts';

const MAX_LINKS = 256;

/** A link as its sender sees it. */
export interface LinkState {
  workerId: string;
  /** Bytes per second; undefined before anything was measured. */
  bytesPerSecond: number | undefined;
  /** Of the last transfer. */
  wire: KvDtype;
  codec: CodecDecision;
  /** From an Open to its answer; undefined before the first. */
  roundTripMs: number | undefined;
  /** Of the codecs that were tried. */
  figures: readonly CodecFigures[];
}

/** A link and what its transfers use. */
export interface Link {
  rate: LinkRate;
  policy: CodecPolicy;
}

interface KnownLink {
  workerId: string;
  rate: LinkRate;
  policies: Map<KvDtype, CodecPolicy>;
  last: { wire: KvDtype; parts: number };
}

export interface LinkPoliciesOptions {
  codec: 'auto' | KvCodec;
  /** Of this worker. */
  incarnation: string;
  /** That encode. */
  threads: number;
}

export class LinkPolicies {
  readonly #options: LinkPoliciesOptions;
  readonly #links = new Map<string, KnownLink>();
  readonly #measures = new Map<KvDtype, CodecMeasures>();

  constructor(options: LinkPoliciesOptions) {
    this.#options = options;
  }

  /** The link to the worker that gave the ticket, for a transfer of so many parts in this form. */
  of(ticket: Ticket, wire: KvDtype, parts: number): Link {
    // blank pages of a worker to itself, when it warms up, say nothing of KV
    if (ticket.incarnation === this.#options.incarnation) return this.#link(ticket, new LinkRate(), new CodecMeasures());
    const key = `${ticket.workerId}/${ticket.incarnation}`;
    const last = { wire, parts };
    const known = this.#links.get(key) ?? { workerId: ticket.workerId, rate: new LinkRate(), policies: new Map(), last };
    known.last = last;
    // the least recently used is forgotten first
    this.#links.delete(key);
    this.#links.set(key, known);
    const oldest = this.#links.keys().next();
    if (this.#links.size > MAX_LINKS && oldest.done !== true) this.#links.delete(oldest.value);
    const measures = this.#measures.get(wire) ?? new CodecMeasures();
    this.#measures.set(wire, measures);
    const policy = known.policies.get(wire) ?? this.#link(ticket, known.rate, measures).policy;
    known.policies.set(wire, policy);
    return { rate: known.rate, policy };
  }

  /** Every link that was used, the last one first. */
  get states(): LinkState[] {
    return [...this.#links.values()].reverse().flatMap(({ workerId, rate, policies, last }) => {
      const policy = policies.get(last.wire);
      if (policy === undefined) return [];
      const { bandwidth, roundTripMs } = rate;
      const { figures } = policy;
      const bytesPerSecond = bandwidth === undefined ? undefined : bandwidth * 1000;
      return [{ workerId, bytesPerSecond, wire: last.wire, codec: policy.decision(last.parts), roundTripMs, figures }];
    });
  }

  #link({ acceptedCodecs }: Ticket, rate: LinkRate, measures: CodecMeasures): Link {
    const { codec, threads } = this.#options;
    const fixed = codec === 'auto' ? {} : { fixed: codec };
    return { rate, policy: new CodecPolicy({ accepted: acceptedCodecs, link: rate, measures, threads, ...fixed }) };
  }
}
