/**
 * Objects: what the entries of an object table describe, and what they weigh on the wire.
 *
 * Wire form: tokens: for each layer that keeps tokens, for each section (K then V, or the latent), token after token,
 * [head][dimension] each. entries: for each entries geometry of this ratio, in the descriptor's order, entry after entry. window: for
 * each section, token after token, oldest first. state: row-major. Nothing between them. States have their own dtype, all else the
 * descriptor's.
 */
import { fail } from '@causeway/errors';
import {
  DTYPE_BYTES,
  keepsTokens,
  type KvDescriptor,
  type LayerGeometry,
  stateElements,
  type StateGeometry,
} from './descriptor.ts';
import { layerTokenBytes } from './page-size.ts';
import { MAX_NAME_LENGTH, MAX_STATE_DIMENSIONS } from './descriptor-check.ts';

const MAX_U31 = 0x7fff_ffff;

export type KvObject =
  /** Tokens of those of the layers that keep tokens. */
  | { kind: 'tokens'; firstLayer: number; layerCount: number; firstToken: number; tokenCount: number }
  /** Entries of one ratio of a layer. */
  | { kind: 'entries'; layer: number; ratio: number; firstEntry: number; entryCount: number }
  /** The last tokens of a layer with a window, as they stand after the last chunk. */
  | { kind: 'window'; layer: number; firstToken: number; tokenCount: number }
  /** A state of a layer, as it stands after the last chunk. */
  | { kind: 'state'; layer: number; name: string; shape: readonly number[] };

/** The layer after whose last chunk alone an object is final; undefined for what only grows. */
export function finalLayer(object: KvObject): number | undefined {
  return object.kind === 'window' || object.kind === 'state' ? object.layer : undefined;
}

/** Checks and weighs the objects of one descriptor. */
export class ObjectGeometry {
  readonly descriptor: KvDescriptor;
  /** Bytes of one token of all layers before each layer that keep tokens; one more for the end. */
  readonly #tokenBytes: number[] = [0];
  /** Per layer and ratio: bytes of one entry of all geometries of this ratio. */
  readonly #entryBytes: ReadonlyMap<number, number>[];

  constructor(descriptor: KvDescriptor) {
    this.descriptor = descriptor;
    const { storage } = descriptor;
    for (const layer of descriptor.layers) {
      const own = keepsTokens(layer) ? layerTokenBytes(layer, storage) : 0;
      this.#tokenBytes.push((this.#tokenBytes.at(-1) as number) + own);
    }
    this.#entryBytes = descriptor.layers.map(({ entries = [] }) => {
      const bytes = new Map<number, number>();
      for (const { ratio, width } of entries) bytes.set(ratio, (bytes.get(ratio) ?? 0) + width * DTYPE_BYTES[storage.dtype]);
      return bytes;
    });
  }

  /** Bytes of a number of the object; 1 where a byte holds two. */
  elementBytes(object: KvObject): 1 | 2 | 4 {
    const dtype = object.kind === 'state' ? this.state(object).dtype : this.descriptor.storage.dtype;
    return Math.max(1, DTYPE_BYTES[dtype]) as 1 | 2 | 4;
  }

  /**
   * Raw bytes of an object on the wire, before any codec.
   * @throws ServiceError `malformed_frame` naming what is wrong with the object: nothing like it is in the descriptor
   */
  bytes(object: KvObject): number {
    const { storage } = this.descriptor;
    switch (object.kind) {
      case 'tokens':
        return product(object, this.#tokenRow(object), object.tokenCount);
      case 'entries':
        return product(object, this.#entryRow(object), object.entryCount);
      case 'window':
        return product(object, layerTokenBytes(this.window(object), storage), object.tokenCount);
      case 'state': {
        const state = this.state(object);
        return stateElements(state) * DTYPE_BYTES[state.dtype];
      }
    }
  }

  /** The layer of a window object. @throws ServiceError `malformed_frame` */
  window(object: KvObject & { kind: 'window' }): LayerGeometry & { window: number } {
    const layer = this.#layer(object);
    const { window } = layer;
    if (window === undefined) return bad(object, `layer ${object.layer} has no window`);
    range(object, 'firstToken', object.firstToken, 0);
    range(object, 'tokenCount', object.tokenCount, 1);
    if (object.tokenCount > window) bad(object, `${object.tokenCount} tokens of a window of ${window}`);
    return { ...layer, window };
  }

  /** The geometry of a state object. @throws ServiceError `malformed_frame` */
  state(object: KvObject & { kind: 'state' }): StateGeometry {
    const { name, shape } = object;
    if (name.length > MAX_NAME_LENGTH) bad(object, `a name of ${name.length} characters; ${MAX_NAME_LENGTH} are the limit`);
    if (shape.length > MAX_STATE_DIMENSIONS) {
      bad(object, `a shape of ${shape.length} dimensions; ${MAX_STATE_DIMENSIONS} are the limit`);
    }
    const state = (this.#layer(object).states ?? []).find((candidate) => candidate.name === name);
    if (state === undefined) return bad(object, `layer ${object.layer} has no state ${JSON.stringify(name)}`);
    if (shape.length !== state.shape.length || shape.some((dim, i) => dim !== state.shape[i])) {
      bad(object, `shape [${shape.join(', ')}] where the descriptor says [${state.shape.join(', ')}]`);
    }
    return state;
  }

  /** Bytes of one entry of the object's layer and ratio. */
  #entryRow(object: KvObject & { kind: 'entries' }): number {
    const { layer, ratio } = object;
    this.#layer(object);
    if (ratio < 1) bad(object, `ratio ${ratio}`);
    range(object, 'firstEntry', object.firstEntry, 0);
    range(object, 'entryCount', object.entryCount, 1);
    return this.#entryBytes[layer]?.get(ratio) ?? bad(object, `layer ${layer} has no entries of ratio ${ratio}`);
  }

  /** Bytes of one token of the object's layers. */
  #tokenRow(object: KvObject & { kind: 'tokens' }): number {
    const { firstLayer, layerCount } = object;
    range(object, 'firstLayer', firstLayer, 0);
    range(object, 'layerCount', layerCount, 1);
    range(object, 'firstToken', object.firstToken, 0);
    range(object, 'tokenCount', object.tokenCount, 1);
    const { length } = this.descriptor.layers;
    const end = firstLayer + layerCount;
    if (end > length) bad(object, `layers ${firstLayer}..${end} of a model with ${length}`);
    const bytes = (this.#tokenBytes[end] as number) - (this.#tokenBytes[firstLayer] as number);
    if (bytes === 0) bad(object, `none of the layers ${firstLayer}..${end} keeps all tokens`);
    return bytes;
  }

  #layer(object: KvObject & { layer: number }): LayerGeometry {
    const layer = this.descriptor.layers[object.layer];
    return layer ?? bad(object, `layer ${object.layer} of a model with ${this.descriptor.layers.length}`);
  }
}

/** a * b, never rounded. */
function product(object: KvObject, a: number, b: number): number {
  const bytes = a * b;
  return Number.isSafeInteger(bytes) ? bytes : bad(object, `${a} * ${b} bytes are too many`);
}

function range(object: KvObject, name: string, value: number, least: number): void {
  if (!Number.isSafeInteger(value) || value < least || value > MAX_U31) bad(object, `${name} is ${value}`);
}

function bad(object: KvObject, message: string): never {
  return fail('invalid_argument', 'malformed_frame', `${object.kind} object: ${message}`);
}
