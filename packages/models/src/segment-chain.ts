/** A model as a row of segments: cuts the graph where asked and carries live values across the cut. */
import type { Value } from '@causeway/onnx-graph';
import type { BuildContext } from './architecture.ts';
import type { Residual } from './rms-norm.ts';
import { SegmentBuilder, type SegmentDraft, tokenRows } from './segment-builder.ts';
import type { ValueSpec } from './types.ts';

/** A value of the current segment that a later one needs. */
export interface LiveValue extends ValueSpec {
  value: Value;
}

export class SegmentChain {
  readonly #context: BuildContext;
  readonly #done: SegmentDraft[] = [];
  #current: SegmentBuilder;
  #layers: number[] = [];

  constructor(context: BuildContext) {
    this.#context = context;
    this.#current = this.#open();
  }

  /** The decoder segment being built. */
  get current(): SegmentBuilder {
    return this.#current;
  }

  /** Whether the current segment has no attention yet: it has just begun. */
  get empty(): boolean {
    return this.#layers.length === 0;
  }

  /** Says that the current segment computes the attention of this layer. */
  enter(layer: number): void {
    this.#layers.push(layer);
  }

  /** Ends the decoder segment before `layer`: gives the hidden state [N, hidden] as values of the next segment. */
  cut(state: Residual, layer: number, hidden: number): Residual {
    const spec = (half: string): ValueSpec => ({ name: `${half}.${layer}`, type: 'f32', shape: tokenRows(hidden) });
    const delta = spec('delta');
    const residual = spec('residual');
    const live = [{ ...delta, value: state.delta }];
    if (state.residual !== undefined) live.push({ ...residual, value: state.residual });
    this.#end(live);
    this.#current = this.#open();
    return {
      residual: state.residual === undefined ? undefined : this.#current.read(residual),
      delta: this.#current.read(delta),
    };
  }

  /** Ends the decoder segment, adds one for the routed experts of `layer`, and opens the next decoder segment. */
  experts(layer: number, live: readonly LiveValue[], build: (segment: SegmentBuilder) => void): void {
    this.#end(live);
    const segment = this.#builder(`experts.${layer}`);
    build(segment);
    this.#done.push(segment.finish({ kind: 'experts', layer }));
    this.#current = this.#open();
  }

  /** Whether routed experts are computed elsewhere. */
  get expertsAreRemote(): boolean {
    return this.#context.experts === 'remote';
  }

  /** As `experts`, computed elsewhere: reads rows, ids and weights, the first of `live`, and writes `output`. */
  remoteExperts(layer: number, live: readonly [LiveValue, LiveValue, LiveValue, ...LiveValue[]], output: ValueSpec): void {
    this.#end(live);
    const inputs = live.slice(0, 3).map(({ name, type, shape }) => ({ name, type, shape }));
    const content = { kind: 'remote-experts', layer } as const;
    this.#done.push({
      name: `experts.${layer}`,
      content,
      graph: new Uint8Array(0),
      weights: [],
      inputs,
      outputs: [output],
      cacheLayers: [],
    });
    this.#current = this.#open();
  }

  /** Ends the segment here, so that what it computes needs nothing of what the next one waits for. */
  part(live: readonly LiveValue[]): void {
    this.#end(live);
    this.#current = this.#open();
  }

  /** Ends the segment here where gates are to be apart: the router of `layer` gets one of its own. Gives whether it did. */
  gate(layer: number, live: readonly LiveValue[]): boolean {
    if (this.#context.gatesApart !== true) return false;
    this.#end(live);
    this.#current = this.#builder(`gate.${layer}`);
    return true;
  }

  /** Ends the last segment. */
  finish(): readonly SegmentDraft[] {
    this.#end([]);
    return this.#done;
  }

  #open(): SegmentBuilder {
    return this.#builder(`decoder.${this.#done.length}`);
  }

  #builder(name: string): SegmentBuilder {
    const { weights, precision, kernels, kvRounding } = this.#context;
    return new SegmentBuilder(name, weights, precision, kernels, kvRounding);
  }

  /** Later segments read `live` by name. What the segment was given under its name is there already. */
  #end(live: readonly LiveValue[]): void {
    for (const { value, ...spec } of live) if (value !== spec.name) this.#current.write(spec, value);
    this.#done.push(this.#current.finish({ kind: 'decoder', layers: this.#layers }));
    this.#layers = [];
  }
}
