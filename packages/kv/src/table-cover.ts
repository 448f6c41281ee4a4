/** Whether an object table holds the KV of a prompt whole: nothing twice, nothing left out. */
import { fail } from '@causeway/errors';
import { keepsTokens, type KvDescriptor } from './descriptor.ts';
import type { KvObject } from './kv-object.ts';

/**
 * Tokens belong to groups of layers that don't overlap and have every layer that keeps tokens; in each group they follow one another
 * from token 0 to the prompt's end. So do the entries of each layer and ratio, as far as tokens complete them. Each window and each
 * state is there once, the window with the prompt's last tokens. Objects must be those of the descriptor (ObjectGeometry).
 * @throws ServiceError `malformed_frame` naming the object at fault
 */
export function checkCover(descriptor: KvDescriptor, objects: readonly KvObject[], tokens: number): void {
  const cover = new Cover(descriptor, tokens);
  for (const [index, object] of objects.entries()) cover.add(index, object);
  cover.finish();
}

class Cover {
  readonly #descriptor: KvDescriptor;
  readonly #tokens: number;
  /** By first layer: layers of the group, and its next token. */
  readonly #groups = new Map<number, { layerCount: number; next: number }>();
  /** Next entry by ratio, of each layer. */
  readonly #entries: Map<number, number>[];
  /** Windows and states that were met. */
  readonly #finals = new Set<string>();

  constructor(descriptor: KvDescriptor, tokens: number) {
    this.#descriptor = descriptor;
    this.#tokens = tokens;
    this.#entries = descriptor.layers.map(() => new Map());
  }

  add(index: number, object: KvObject): void {
    switch (object.kind) {
      case 'tokens':
        return this.#addTokens(index, object);
      case 'entries': {
        const { layer, ratio, firstEntry, entryCount } = object;
        const next = this.#entries[layer]?.get(ratio) ?? 0;
        if (firstEntry !== next) bad(`object ${index} begins at entry ${firstEntry} of ${of(layer, ratio)}, not ${next}`);
        this.#entries[layer]?.set(ratio, next + entryCount);
        return;
      }
      case 'window': {
        const { layer, firstToken, tokenCount } = object;
        const window = this.#descriptor.layers[layer]?.window ?? 0;
        const first = Math.max(0, this.#tokens - window);
        if (firstToken !== first || firstToken + tokenCount !== this.#tokens) {
          bad(`object ${index} is a window of tokens ${range(firstToken, tokenCount)}, not ${first}..${this.#tokens}`);
        }
        return this.#addFinal(index, windowKey(layer));
      }
      case 'state':
        return this.#addFinal(index, stateKey(object.layer, object.name));
    }
  }

  finish(): void {
    this.#finishTokens();
    for (const [layer, { window, entries = [], states = [] }] of this.#descriptor.layers.entries()) {
      for (const { ratio } of entries) {
        const wanted = Math.floor(this.#tokens / ratio);
        const found = this.#entries[layer]?.get(ratio) ?? 0;
        if (found !== wanted) bad(`${found} entries of ${of(layer, ratio)}; ${this.#tokens} tokens make ${wanted}`);
      }
      const finals = states.map(({ name }) => stateKey(layer, name));
      if (window !== undefined) finals.push(windowKey(layer));
      const missing = finals.find((key) => !this.#finals.has(key));
      if (missing !== undefined) bad(`no object is ${missing}`);
    }
  }

  #addTokens(index: number, { firstLayer, layerCount, firstToken, tokenCount }: KvObject & { kind: 'tokens' }): void {
    const group = this.#groups.get(firstLayer) ?? { layerCount, next: 0 };
    this.#groups.set(firstLayer, group);
    if (group.layerCount !== layerCount) {
      bad(`object ${index} has layers ${range(firstLayer, layerCount)}, one before ${range(firstLayer, group.layerCount)}`);
    }
    if (firstToken !== group.next) bad(`object ${index} begins at token ${firstToken}, not ${group.next}`);
    group.next += tokenCount;
  }

  #addFinal(index: number, key: string): void {
    if (this.#finals.has(key)) bad(`object ${index} is ${key} a second time`);
    this.#finals.add(key);
  }

  #finishTokens(): void {
    let nextLayer = 0;
    for (const [firstLayer, { layerCount, next }] of [...this.#groups].sort(([a], [b]) => a - b)) {
      if (firstLayer < nextLayer) bad(`layers ${firstLayer}..${nextLayer} are in two groups`);
      this.#checkSkipped(nextLayer, firstLayer);
      nextLayer = firstLayer + layerCount;
      if (next !== this.#tokens) {
        bad(`the objects of layers ${range(firstLayer, layerCount)} end at token ${next}, not ${this.#tokens}`);
      }
    }
    this.#checkSkipped(nextLayer, this.#descriptor.layers.length);
  }

  /** Layers [from, to) are in no group. */
  #checkSkipped(from: number, to: number): void {
    const skipped = this.#descriptor.layers.slice(from, to).findIndex(keepsTokens);
    if (skipped >= 0) bad(`no object has the tokens of layer ${from + skipped}`);
  }
}

const of = (layer: number, ratio: number): string => `layer ${layer}, ratio ${ratio}`;
const windowKey = (layer: number): string => `the window of layer ${layer}`;
const stateKey = (layer: number, name: string): string => `state "${name}" of layer ${layer}`;

function range(first: number, count: number): string {
  return `${first}..${first + count}`;
}

function bad(message: string): never {
  return fail('invalid_argument', 'malformed_frame', `object table: ${message}`);
}
