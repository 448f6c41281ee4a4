/**
 * The part of a sequence's memory that doesn't grow: the windows and states of its layers, layer after layer, each at a multiple of
 * 64 bytes. A window is a ring: token t lies in place t mod size of each section (K, V or latent).
 */
import { DTYPE_BYTES, type KvDescriptor, type LayerGeometry, stateElements } from './descriptor.ts';
import { layerTokenBytes } from './page-size.ts';

const ALIGNMENT = 64;

export interface FixedLayer {
  /** First byte of the window; undefined when there is none. */
  window: number | undefined;
  /** First byte of each state, by name. */
  states: ReadonlyMap<string, number>;
}

/** Where windows and states lie, by layer, and how many bytes they take. */
export function fixedArea({ layers, storage }: Pick<KvDescriptor, 'layers' | 'storage'>): {
  layers: FixedLayer[];
  bytes: number;
} {
  let bytes = 0;
  const place = (length: number): number => {
    const at = bytes;
    bytes = Math.ceil((at + length) / ALIGNMENT) * ALIGNMENT;
    return at;
  };
  const placeLayer = (layer: LayerGeometry): FixedLayer => ({
    window: layer.window === undefined ? undefined : place(layer.window * layerTokenBytes(layer, storage)),
    states: new Map((layer.states ?? []).map((state) => [state.name, place(stateElements(state) * DTYPE_BYTES[state.dtype])])),
  });
  return { layers: layers.map(placeLayer), bytes };
}

/** Bytes of one sequence's windows and states. */
export function fixedBytes(descriptor: Pick<KvDescriptor, 'layers' | 'storage'>): number {
  return fixedArea(descriptor).bytes;
}
