import type { Machine } from './machine.ts';

/** Nothing can follow. */
export const DEAD = 0;
const UNKNOWN = -1;
/** The frame under everything: returning from it ends the document. */
const BOTTOM = 0;

/** Where a rule returns to. */
interface Frame {
  to: number;
  parent: number;
  /** The frame that stands for all that read the same. */
  alias: number;
}

/** A set of places in the machine at which one text may have arrived. */
interface Configuration {
  states: Int32Array;
  frames: Int32Array;
  /** The document may end here. */
  accepting: boolean;
  /** Some place is in literal text. */
  literal: boolean;
  /** Equal for configurations that allow the same tokens. */
  maskKey: string;
}

/** The automaton grew beyond a bound: build another and read the text again. */
export class AutomatonFull extends Error {
  override readonly name = 'AutomatonFull';
}

/**
 * A machine made deterministic as it is used: configurations are numbered as they are met, and each one's transitions are kept. A
 * transition is a pure function of configuration and byte, whatever was read before.
 */
export class Automaton {
  readonly start: number;
  readonly #machine: Machine;
  readonly #maxConfigurations: number;
  readonly #ends: Uint8Array;
  /** Bytes that no edge of the machine tells apart have the same class. */
  readonly #classOf = new Uint8Array(256);
  readonly #classes: number;
  readonly #frames: Frame[] = [{ to: -1, parent: -1, alias: BOTTOM }];
  readonly #frameIds = new Map<number, number>();
  readonly #configurations: Configuration[] = [];
  readonly #ids = new Map<string, number>();
  #work = 0;
  #mostWork = Number.POSITIVE_INFINITY;
  /** By configuration and class. */
  #next = new Int32Array(0);

  /** `machine` must be finished. */
  constructor(machine: Machine, root: number, maxConfigurations = 20_000) {
    this.#machine = machine;
    this.#maxConfigurations = maxConfigurations;
    this.#ends = new Uint8Array(machine.bytes.length);
    for (const { end } of machine.rules) this.#ends[end] = 1;
    this.#classes = byteClasses(machine, this.#classOf);
    const dead = this.#intern({ states: [], frames: [], accepting: false });
    this.#next.fill(DEAD, dead * this.#classes, (dead + 1) * this.#classes);
    this.start = this.#close([machine.rule(root).start], [BOTTOM]);
  }

  /** Configurations met so far. */
  get size(): number {
    return this.#configurations.length;
  }

  /** From now on so many places may be visited. */
  allowWork(places: number): void {
    this.#mostWork = this.#work + places;
  }

  /** After one more byte; DEAD when it can't follow. @throws AutomatonFull */
  step(configuration: number, byte: number): number {
    const at = configuration * this.#classes + (this.#classOf[byte] as number);
    const known = this.#next[at] as number;
    if (known !== UNKNOWN) return known;
    const next = this.#move(this.#configurations[configuration] as Configuration, byte);
    this.#next[at] = next;
    return next;
  }

  read(configuration: number, bytes: Uint8Array): number {
    let at = configuration;
    for (let i = 0; i < bytes.length && at !== DEAD; i++) at = this.step(at, bytes[i] as number);
    return at;
  }

  accepting(configuration: number): boolean {
    return this.#configurations[configuration]?.accepting === true;
  }

  literal(configuration: number): boolean {
    return this.#configurations[configuration]?.literal === true;
  }

  maskKey(configuration: number): string {
    return this.#configurations[configuration]?.maskKey ?? '';
  }

  #move({ states, frames }: Configuration, byte: number): number {
    const toStates: number[] = [];
    const toFrames: number[] = [];
    for (let i = 0; i < states.length; i++) {
      const triples = this.#machine.bytes[states[i] as number] as number[];
      for (let t = 0; t < triples.length; t += 3) {
        if (byte < (triples[t] as number) || byte > (triples[t + 1] as number)) continue;
        toStates.push(triples[t + 2] as number);
        toFrames.push(frames[i] as number);
      }
    }
    return toStates.length === 0 ? DEAD : this.#close(toStates, toFrames);
  }

  /** Follows what reads nothing, and numbers the result. */
  #close(workStates: number[], workFrames: number[]): number {
    const seen = new Set<number>();
    const states: number[] = [];
    const frames: number[] = [];
    let accepting = false;
    const machine = this.#machine;
    while (workStates.length > 0) {
      if (++this.#work > this.#mostWork) throw new AutomatonFull('too many places for one mask');
      const state = workStates.pop() as number;
      const frame = workFrames.pop() as number;
      const key = frame * machine.bytes.length + state;
      if (seen.has(key)) continue;
      seen.add(key);
      if ((machine.bytes[state] as number[]).length > 0) {
        states.push(state);
        frames.push(frame);
      }
      for (const to of machine.empty[state] as number[]) {
        workStates.push(to);
        workFrames.push(frame);
      }
      for (const { rule, to } of machine.calls[state] ?? []) {
        workStates.push(machine.rule(rule).start);
        workFrames.push(this.#frame(to, frame));
      }
      if (this.#ends[state] !== 1) continue;
      if (frame === BOTTOM) accepting = true;
      else {
        const { to, parent } = this.#frames[frame] as Frame;
        workStates.push(to);
        workFrames.push(parent);
      }
    }
    return this.#intern({ states, frames, accepting });
  }

  /** A return to the end of a rule from which nothing else leads on is the caller's own return: right recursion takes no room. */
  #frame(to: number, parent: number): number {
    const machine = this.#machine;
    if (this.#returns(to)) return parent;
    const key = parent * machine.bytes.length + to;
    const known = this.#frameIds.get(key);
    if (known !== undefined) return known;
    const id = this.#frames.length;
    this.#frames.push({ to, parent, alias: id });
    this.#frameIds.set(key, id);
    const alias = machine.alias[to] as number;
    const parentAlias = (this.#frames[parent] as Frame).alias;
    if (alias !== to || parentAlias !== parent) (this.#frames[id] as Frame).alias = this.#frame(alias, parentAlias);
    return id;
  }

  /** From `state` the only way on is to the end of its rule, reading nothing. */
  #returns(state: number): boolean {
    const machine = this.#machine;
    for (let at = state; ; at = machine.empty[at]?.[0] as number) {
      if ((machine.bytes[at] as number[]).length > 0 || (machine.calls[at] ?? []).length > 0) return false;
      const ways = (machine.empty[at] as number[]).length;
      if (this.#ends[at] === 1) return ways === 0;
      if (ways !== 1 || machine.empty[at]?.[0] === state) return false;
    }
  }

  #intern(set: { states: number[]; frames: number[]; accepting: boolean }): number {
    const { accepting } = set;
    const order = set.states.map((_, i) => i);
    const by = (i: number): number => (set.frames[i] as number) * this.#machine.bytes.length + (set.states[i] as number);
    order.sort((a, b) => by(a) - by(b));
    const states = Int32Array.from(order, (i) => set.states[i] as number);
    const frames = Int32Array.from(order, (i) => set.frames[i] as number);
    const key = `${states.join()};${frames.join()};${accepting}`;
    const known = this.#ids.get(key);
    if (known !== undefined) return known;
    const id = this.#configurations.length;
    if (id >= this.#maxConfigurations) throw new AutomatonFull(`the automaton has ${id} configurations`);
    const literal = states.some((state) => this.#machine.literal[state]);
    this.#configurations.push({ states, frames, accepting, literal, maskKey: this.#maskKey(states, frames, accepting) });
    this.#ids.set(key, id);
    this.#grow(id + 1);
    return id;
  }

  #maskKey(states: Int32Array, frames: Int32Array, accepting: boolean): string {
    const places = Array.from(states, (state, i) => `${this.#machine.alias[state]}:${this.#frames[frames[i] as number]?.alias}`);
    return `${places.sort().join()};${accepting}`;
  }

  #grow(count: number): void {
    const needed = count * this.#classes;
    if (this.#next.length >= needed) return;
    const larger = new Int32Array(Math.max(needed, 2 * this.#next.length, 64 * this.#classes)).fill(UNKNOWN);
    larger.set(this.#next);
    this.#next = larger;
  }
}

/** Fills `classOf`; gives how many classes there are. */
function byteClasses(machine: Machine, classOf: Uint8Array): number {
  const begins = new Uint8Array(257);
  for (const triples of machine.bytes) {
    for (let i = 0; i < triples.length; i += 3) {
      begins[triples[i] as number] = 1;
      begins[(triples[i + 1] as number) + 1] = 1;
    }
  }
  let last = 0;
  for (let byte = 1; byte < 256; byte++) {
    if (begins[byte] === 1) last++;
    classOf[byte] = last;
  }
  return last + 1;
}
